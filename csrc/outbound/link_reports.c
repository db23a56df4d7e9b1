/* What the link-writer reports to the gateway about its links. */
#include "outbound/link_writer.h"
#include "outbound/send_in_place.h"

static enum step report_broken(struct link_writer *writer, struct writer_link *link) {
    int error = link->broken;
    link->broken = 0;
    writer->n_broken--;
    link->has_ended = true;
    send_in_place_allow(writer, link, false);
    loop_unwatch(&writer->loop, link->fd);
    return loop_report(&writer->loop, link->slot, link->id, EVENT_LINK_ERROR, error);
}

void link_writer_note_too_long(struct link_writer *writer, struct writer_link *link) {
    writer->n_too_long += !link->is_too_long;
    link->is_too_long = true;
}

static enum step report_too_long(struct link_writer *writer, struct writer_link *link) {
    link->is_too_long = false;
    writer->n_too_long--;
    return loop_report(&writer->loop, link->slot, link->id, EVENT_TOO_LONG, 0);
}

bool link_writer_has_report(const struct link_writer *writer) {
    return writer->n_broken > 0 || writer->n_too_long > 0 || writer->loop.n_news > 0;
}

enum step link_writer_report(struct link_writer *writer) {
    for (unsigned slot = 0; slot < N_PEER_SLOTS; slot++) {
        struct writer_link *link = writer->links[slot];
        if (link == NULL)
            continue;
        if (writer->n_broken > 0 && link->broken != 0)
            return report_broken(writer, link);
        if (writer->n_broken == 0 && link->is_too_long)
            return report_too_long(writer, link);
        if (writer->n_broken > 0 || writer->n_too_long > 0)
            continue;
        if (link->trains.is_news)
            return loop_report_news(&writer->loop, slot, link->id, &link->trains, REFUSED_TRAINS);
        if (link->datagrams.is_news)
            return loop_report_news(&writer->loop, slot, link->id, &link->datagrams,
                                    REFUSED_DATAGRAMS);
    }
    return STEP_MORE;
}

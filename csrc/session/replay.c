#include "session/replay.h"

/* The blocks above the one that holds the greatest counter get new meanings: none is marked. */
static void move_on(struct replay *replay, uint64_t counter) {
    uint64_t block = (replay->next + REPLAY_BLOCK_BITS - 1) / REPLAY_BLOCK_BITS;
    uint64_t last = counter / REPLAY_BLOCK_BITS;
    if (last >= block + REPLAY_BLOCKS) /* all of them */
        block = last - (REPLAY_BLOCKS - 1);
    for (; block <= last; block++)
        replay->blocks[block % REPLAY_BLOCKS] = 0;
    replay->next = counter + 1;
}

bool replay_accept(struct replay *replay, uint64_t counter) {
    if (counter >= REJECT_AFTER_MESSAGES)
        return false;
    if (counter >= replay->next)
        move_on(replay, counter);
    else if (replay->next - 1 - counter > REPLAY_WINDOW)
        return false;
    uint64_t *block = &replay->blocks[counter / REPLAY_BLOCK_BITS % REPLAY_BLOCKS];
    uint64_t bit = (uint64_t)1 << counter % REPLAY_BLOCK_BITS;
    if ((*block & bit) != 0)
        return false;
    *block |= bit;
    return true;
}

void replay_use_up(struct replay *replay, uint64_t next) {
    if (next > REJECT_AFTER_MESSAGES)
        next = REJECT_AFTER_MESSAGES;
    for (uint64_t used = next > REPLAY_BITS ? next - REPLAY_BITS : 0; used < next; used++)
        replay_accept(replay, used);
}

"""What others see of a gateway: the metrics address, and the log."""

from typing import NamedTuple

from fastun import endpoint
from fastun.config.sources import Sources
from fastun.config.vocabulary import LOG_FORMATS, LOG_LEVELS, LogFormat, one_of
from fastun.errors import ConfigError, quote


class LogSettings(NamedTuple):
    """`verbosity` 0 logs from info up, 1 and more from debug up."""

    format: LogFormat = "console"
    verbosity: int = 0

    @property
    def level(self) -> str:
        """As the file says it."""
        return LOG_LEVELS[min(self.verbosity, 1)]


def log(sources: Sources) -> LogSettings:
    """Return how to log; raise ConfigError."""
    options, section = sources.options, sources.document.log
    form = sources.effective(options.log_format, "--log-format", section.format, "log.format")
    level = one_of(LOG_LEVELS, section.level, sources.where("log.level"))
    return LogSettings(one_of(LOG_FORMATS, *form), options.verbose or LOG_LEVELS.index(level))


def metrics(sources: Sources) -> tuple[str, int] | None:
    """Return host and port, None for off; raise ConfigError."""
    text, where = sources.effective(
        sources.options.metrics, "--metrics", sources.document.metrics.listen, "metrics.listen"
    )
    if text == "off":
        return None
    try:
        host, port = endpoint.parse_host_port(text)
    except ConfigError as error:
        raise ConfigError(f"{where}: {quote(text)}: {error}") from None
    if port is None:
        raise ConfigError(f"{where}: {quote(text)} has no port; write HOST:PORT, or off")
    return host, port

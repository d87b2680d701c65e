"""`serve.toml`: how a server listens, answers, remembers, and whom it lets in."""

from dataclasses import dataclass, field
from typing import Literal

from upnext.config import require
from upnext.errors import ConfigError
from upnext.events.config import EventsConfig
from upnext.serving.answering import AnsweringConfig
from upnext.serving.batching import QueueConfig
from upnext.serving.gate import GateConfig
from upnext.serving.security import SecurityConfig


@dataclass(frozen=True, kw_only=True)
class HttpConfig:
    """Where a server listens, and with how many processes."""

    host: str = "127.0.0.1"
    """The address that answers; with `allow_remote` it may be one that others reach."""
    port: int = 8080
    """Its port; 0 takes a free one."""
    admin_host: str = "127.0.0.1"
    """The address that releases and labels are managed on, and that tells metrics."""
    admin_port: int | None = None
    """Its port; 0 takes a free one; unset, there is none, and the command line moves labels."""
    allow_remote: bool = False
    """Whether others than this machine may reach either address."""
    num_processes: int = 1
    """Processes that answer on the one port, each with threads of its own and all releases
    mapped; as many as there are cores answer most."""
    graceful_s: float = 10.0
    """How long what is under way at the end may take to finish."""

    def __post_init__(self) -> None:
        require("http", self, at_least={"num_processes": 1, "graceful_s": 0, "port": 0})


@dataclass(frozen=True, kw_only=True)
class FleetConfig:
    """Replicas of the server on a Ray cluster, behind one endpoint; read where there is `--ray`."""

    num_replicas: int = 2
    """Servers at least; each is one process."""
    max_replicas: int | None = None
    """Servers at most, as many as the load asks for; unset, there are always `num_replicas`."""
    cores_per_replica: float = 1.0
    """What Ray sets aside for each; `[queue] num_threads` of them answer."""
    busy_above: float = 4.0
    """Requests under way in each replica, on average over `window_s`: above that there is one more
    replica, and one less if the others would stay below half of it."""
    window_s: float = 10.0
    """How long the load is looked at before the number of replicas changes."""
    silent_s: float = 5.0
    """A replica that does not tell for so long that it is ready is asked nothing more, and what it
    was asked is asked another."""
    max_in_flight: int = 1_024
    """Requests at most that the front holds; what is beyond is refused at once."""

    def __post_init__(self) -> None:
        least = {"num_replicas": 1, "max_in_flight": 1}
        above = dict.fromkeys(("cores_per_replica", "busy_above", "window_s", "silent_s"), 0.0)
        require("fleet", self, at_least=least, above=above)
        if self.max_replicas is not None and self.max_replicas < self.num_replicas:
            expected = f"num_replicas ({self.num_replicas}) or more"
            raise ConfigError("[fleet] max_replicas", expected=expected, got=str(self.max_replicas))

    @property
    def most(self) -> int:
        """Replicas at most."""
        return self.max_replicas or self.num_replicas


@dataclass(frozen=True, kw_only=True)
class ServingConfig:
    """All of it; each section has its defaults."""

    logs: Literal["text", "json"] = "text"
    """How the server's own log is written, to stderr: for people, or a JSON object a line."""
    live_history: bool = True
    """Whether events are taken, and what is served is kept; [events] says where."""
    http: HttpConfig = field(default_factory=HttpConfig)
    """Where it listens."""
    queue: QueueConfig = field(default_factory=QueueConfig)
    """How much may wait, and who works it off."""
    answering: AnsweringConfig = field(default_factory=AnsweringConfig)
    """How long an answer may take."""
    gate: GateConfig = field(default_factory=GateConfig)
    """When a label is taken back."""
    events: EventsConfig = field(default_factory=EventsConfig)
    """Where the live store is; SQLite's file lies in the registry unless its path is absolute."""
    security: SecurityConfig = field(default_factory=SecurityConfig)
    """Who may ask what."""
    fleet: FleetConfig = field(default_factory=FleetConfig)
    """How many servers there are on a Ray cluster."""

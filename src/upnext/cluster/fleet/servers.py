"""Who can be asked now: the servers of a fleet, each for as long as it is where it is."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

from upnext.cluster.fleet.connections import Answer, Connections, LostError
from upnext.errors import UpnextError

Address = Literal["public", "managing"]
"""Which of a server's two addresses."""


class NobodyReadyError(UpnextError):
    """No server can be asked now."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Server:
    """One server process, by its name and two addresses; started anew it is another."""

    name: str
    public: Connections
    managing: Connections

    def of(self, address: Address) -> Connections:
        """The connections to one of its addresses."""
        return self.public if address == "public" else self.managing

    @property
    def num_in_flight(self) -> int:
        """Requests that it has been sent and has not answered."""
        return self.public.num_in_flight + self.managing.num_in_flight

    def close(self) -> None:
        """Gives up all that is under way."""
        self.public.close()
        self.managing.close()


@dataclass(kw_only=True)
class Rotation:
    """The servers that requests go to; whoever keeps them replaces the list as they come and go.

    `doubt`: called with a server that gave no answer. `num_retried`: requests that another server
    was asked as well. `num_refused`: those that none could be asked.
    """

    doubt: Callable[[Server], None] = lambda _: None
    servers: Sequence[Server] = ()
    num_retried: int = 0
    num_refused: int = 0
    _turn: int = field(default=0, init=False)

    async def ask(
        self,
        address: Address,
        request: Sequence[bytes],
        *,
        has_no_body: bool = False,
        is_repeatable: bool = True,
    ) -> Answer:
        """Asks the server that has the least to do; should that be lost, once more another one.

        Raises:
            NobodyReadyError: there is none, or none is left. LostError: a request that must not be
                sent twice was sent, or it was lost twice.
        """
        lost: list[Server] = []
        may_be_sent_again = is_repeatable
        while True:
            server = self._next(lost)
            self.num_retried += bool(lost)
            try:
                return await server.of(address).ask(
                    request, has_no_body=has_no_body, is_repeatable=is_repeatable
                )
            except LostError as error:
                self.doubt(server)
                lost.append(server)
                if error.was_sent:
                    if not may_be_sent_again:
                        raise
                    may_be_sent_again = False

    def _next(self, lost: Collection[Server]) -> Server:
        left = [one for one in self.servers if one not in lost] if lost else self.servers
        if not left:
            self.num_refused += 1
            raise NobodyReadyError("the fleet", expected="a server that is ready", got="none")
        self._turn += 1  # of equals each in its turn
        turn = self._turn % len(left)
        return min((*left[turn:], *left[:turn]), key=_num_in_flight)


def _num_in_flight(server: Server) -> int:
    return server.num_in_flight

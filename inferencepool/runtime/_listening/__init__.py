"""Taking connections: at which addresses, how many, from whom, and who goes when there is no room."""

from inferencepool.runtime._listening._acceptor import Acceptor
from inferencepool.runtime._listening._binding import listen
from inferencepool.runtime._listening._guests import Guest, Guests
from inferencepool.runtime._listening._limits import CONNECTION_LIMITS, ConnectionLimits, Network, read_networks
from inferencepool.runtime._listening._tally import LimitTally

__all__ = [
    "CONNECTION_LIMITS",
    "Acceptor",
    "ConnectionLimits",
    "Guest",
    "Guests",
    "LimitTally",
    "Network",
    "listen",
    "read_networks",
]

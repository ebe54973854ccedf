"""What is cached where: for a prompt, how many of its leading blocks each endpoint is believed to hold."""

from inferencepool.prefix._hash_chain import HashChainIndex
from inferencepool.prefix._index import PrefixIndex, PrefixMatch, PrefixStatistics
from inferencepool.prefix._joint import JointMatch
from inferencepool.prefix._tokens import token_bytes
from inferencepool.prefix._tree import PrefixTree

__all__ = [
    "HashChainIndex",
    "JointMatch",
    "PrefixIndex",
    "PrefixMatch",
    "PrefixStatistics",
    "PrefixTree",
    "token_bytes",
]

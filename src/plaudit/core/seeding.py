"""One seed a run, from which every generator derives its own by name. There are no global generators."""

import hashlib
import json


def derive(seed: int, *names: str | int) -> int:
    """A seed for the generator called `names`, in `0 .. 2**63 - 1` (what `torch.Generator.manual_seed` takes).

    Stable across processes, platforms and versions. Different names give unrelated seeds, so adding a generator
    changes no other; `derive(s, 1)`, `derive(s, "1")` and `derive(s, "a", "b")`, `derive(s, "ab")` all differ.
    """
    text = json.dumps([seed, *names])
    digest = hashlib.blake2b(text.encode("ascii"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1

"""How long a test waits for what must happen: long, as the machine may be slow, and busy too."""

from functools import partial

import httpx

SOON_S = 60.0

get = partial(httpx.get, timeout=SOON_S, trust_env=False)
post = partial(httpx.post, timeout=SOON_S, trust_env=False)
put = partial(httpx.put, timeout=SOON_S, trust_env=False)

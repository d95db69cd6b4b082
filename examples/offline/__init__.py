"""Everything the examples need to run without a network and without a key: pages, a search, a reader and a model.

```python
from offline import model, read_article, search

for hit in search("why cats run the internet", max_results=3):
    print(hit.title, hit.url)
```
"""

from .extractive import model
from .library import fetch, read_article, search

__all__ = ["fetch", "model", "read_article", "search"]

"""What a server needs and no model, item or index: batching, bounded caches, limits, guards, counters, the page's files.

Which index is asked and how an answer looks is the business of `stages.service` and `stages.serve`.
"""

"""Named vector indexes: a log of documents that belongs to a key, searched exactly by several nodes.

What it decides. The owner of an index is a peer: it alone adds, removes, shares, and says who holds what. Documents are
accepted durably as a batch, embedded as a task by the swarm, and sealed into immutable segments: content-addressed
files of unit vectors, ids, texts and metadata (`segment`). What changes is small and beside them: a versioned bitmap of
deleted rows. Replacing a document deletes the old row when the new one is sealed; segments that became small or mostly
deleted are merged. The owner keeps every segment pinned (`copies`): that is the truth, the fallback of every search and
the source of every repair. `replicas` other nodes hold each segment (`placement`), chosen by rendezvous hashing with
bounded loads (`spread`), and are told of deletions and readers by repeating `Hold`. A search is scattered over the
nodes that have current copies, this one included, each segment to one of them; slow, failing and lacking ones are
raced; results are merged by (score, id), which is the global top k because every part is exact (`searching`). Exact
search in numpy is right up to some 50,000 vectors a node; above that an approximate index would be a new kind of part.

States. Batch: queued, embedding, building, sealed; or waiting to retry. Segment: building, living, retired. Replica:
wanted, held, current (deletions and readers confirmed), surplus, owed a drop. Search: embedding, scattered, checking.

What is promised. An accepted document survives a crash and is embedded, eventually. `complete` results are exact over
what was sealed when the search began. Every obligation towards another node (hold, drop) is saved first and repeated
until confirmed; nothing counts as replicated after a restart until its holder has confirmed it again.

What a liar can do. A holder cannot invent or alter a hit in the owner's searches: text and metadata are compared with
the owner's hashes and scores are recomputed. It can hold back hits: that shows only in the share `duplicate_rate` of
searches which repeat its part here. A reader of another's index has no copy to compare with and trusts the holders for
scores and completeness. A holder sees the documents and queries that it serves, and a reader who was removed keeps what
it saw. A digest is as good as a key: whoever knows it and is a member can fetch the segment from those who have it.

Limits: `settings.IndexSettings`. Segments come from strangers and are validated byte for byte before they are used.
Cores: `owner.IndexesCore` (part `indexes`), `holder.HolderCore` (part `holder`); worker functions: `search_worker`,
registered under the names in `inner.FUNCTIONS`.

Sources: rendezvous hashing (Thaler and Ravishankar 1998), bounded loads (Mirrokni et al., arXiv:1608.01350), longest
processing time first (Graham 1969), log-structured merging (O'Neil et al. 1996), hedged requests (Dean and Barroso, The
Tail at Scale, 2013).
"""

"""`IndexesCore`: the owner's and reader's side of named vector indexes. See the package for the theory.

This module joins the rooms: `catalog` (what there is), `ingest` and `sealing` (documents become segments),
`placement` (segments on other nodes), `searching` (scatter and gather), `manifests` (indexes of others).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import Struct

from ..crypto.signing import Signer
from ..effects import Ask, Call, Done, Effect, Envelope, Now, Reply, Row, Tick, Transfer
from ..errors import (
    Conflict,
    EdgenetError,
    InvariantError,
    NotFound,
    Overloaded,
    RemoteError,
    Unreachable,
    UsageError,
)
from ..messages.artifacts import PinArtifact, Stored
from ..messages.memory import (
    AddDocuments,
    CreateIndex,
    DeleteIndex,
    GetIndex,
    IndexView,
    ListIndexes,
    RemoveDocuments,
    SearchIndex,
    SegmentView,
    ShareIndex,
)
from ..messages.network import GetSwarm, PeerDown, PeerOffers, PeerUp
from ..messages.tasks import Submit
from ..messages.trust import GetStandings, StandingChanged
from ..wire.index import GetManifest, HITS_MAX, Manifest, SegmentInfo
from .accepting import accepted
from .answers import Target, check_where
from .catalog import Catalog, Index, OwnSegment
from .grants import Authority, check_name, check_reader, check_readers
from .ingest import EmbeddedTag, Embedder, Ingest, SubmittedTag, Waiter
from .inner import Rng, SearchOwn
from .manifests import Known, Manifests, targets
from .peers import Peers
from .placement import DropTag, HoldTag, Placement
from .rows import IndexRow
from .sealing import PIN, BuiltTag, ReleasedTag, StoredTag
from .searching import KIND, PartTag, RepeatedTag, ScoredTag, Search, Searches
from .serving import ServedTag, Serving, check_query
from .settings import IndexSettings

ASK_TIMEOUT_S: Final = 10.0
"""For questions to this node itself that are answered from memory."""

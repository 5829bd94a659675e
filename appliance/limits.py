"""Every bound of the appliance: a name, a unit, and the relations between them, checked at import.

Grouped by who is held back. Units: `_BYTES`, `_MS`, `_S`, or a plain count.
"""

from appliance.invariant import invariant

KIB = 1024
MIB = 1024 * KIB

# Connections: what a peer may cost before and after it is known.
MAX_FRAME_BYTES_UNAUTHENTICATED = 16 * KIB
MAX_FRAME_BYTES = 100 * MIB
MAX_HANDSHAKE_BYTES = 64 * KIB
MAX_HANDSHAKE_S = 10
MAX_HEALTH_CONNECTIONS = 16
MAX_HEALTH_HEAD_BYTES = 8 * KIB
HEALTH_PATIENCE_S = 5.0
"""Of the socket for the node's health: at a time, a request's head, and from accept to the end."""
MAX_HANDSHAKES_AT_ONCE = 1024
MAX_HANDSHAKES_PER_ADDRESS = 64
STRANGERS_SHARE = 0.25
"""Of the event loop's time, for peers that are not known yet: about 200 handshakes a second."""
TURN_S = 0.0005
"""Of the event loop's time, for all connections of one user, before others get theirs."""
TURN_ALONE_S = 0.05
"""The same while no other user has asked for anything in CROWD_S."""
CROWD_S = 0.1
TURNS_SHARE = 0.25
"""Of the event loop's time; a user that takes less does not wait for a turn."""
MAX_STRANGERS_LINES_PER_S = 10
"""About peers that were not let in, in the log of one listener; others are counted."""
KEPT_DESCRIPTORS = 1024
"""That clients' sockets leave to files and to other nodes; half, of a limit that is small."""
MAX_CONNECTIONS = 4096
MAX_CONNECTIONS_PER_ADDRESS = 1024
MAX_LOGIN_S = 10
"""From the end of the handshake to the end of the login, where one is asked for."""
FAILED_LOGIN_DELAY_S = 0.1
"""Before a failed login is answered (Kafka's connection.failed.authentication.delay.ms)."""
MAX_SCRAM_MESSAGE_BYTES = 4 * KIB
MAX_SCRAM_ITERATIONS = 16_384
"""Of a credential (Kafka's bound too); clients do that much work at each login."""
MAX_SCRAM_SALT_BYTES = 128
MAX_SCRAM_CREDENTIALS = 100_000
DECOY_SECRET_BYTES = 32
"""Of all users, kept by the catalogue."""
MAX_TOKEN_BYTES = 12 * KIB
MAX_KEY_SET_BYTES = 256 * KIB
MAX_KEY_SET_KEYS = 64
MAX_KEY_SET_FETCH_S = 10
KEY_SET_REFRESH_S = 300
MAX_FRAME_READ_S = 30
"""From a frame's first byte to its last."""
MAX_IDLE_S = 600
"""Between frames (Kafka's connections.max.idle.ms)."""
MAX_PIPELINED_REQUESTS = 256
"""Unanswered requests of one connection."""
MAX_CLOSE_S = 2
"""For replies that are still to come when a connection ends."""
MAX_LINGER_S = 1
"""For a peer to take the last bytes of a connection."""
CONNECTION_SWEEP_S = 1
"""How exact the time-outs of connections are; one sweep serves them all."""
ACCEPT_PAUSE_S = 0.1
"""Before accepting again when the system is out of descriptors or memory."""
MAX_SILENT_RECORDS = 64
"""TLS records in a row that hold no application byte (key updates, each of which is answered)."""
MAX_SEND_STALL_S = 30
"""Without a byte taken by a client that has replies to read."""
MIN_FRAME_ROOM_BYTES = 16 * KIB
"""What a frame's first byte may reserve; room grows with what has arrived."""
FRAME_GROWTH_FACTOR = 16
"""A frame's room at most, as a multiple of its bytes that have arrived."""
MAX_STRUCTURE_BYTES = 2 * MIB
"""Largest native frame that may be of any type; beyond it, only those that carry bulk."""

# Memory budgets (DESIGN section 8). Full means that sockets are not read; nothing is dropped.
CLIENT_REQUEST_BUDGET_BYTES = 256 * MIB
CLIENT_REPLY_BUDGET_BYTES = 256 * MIB
PEER_BUDGET_BYTES = 128 * MIB

# Nodes among themselves (DESIGN sections 7 and 8).
MAX_NODES = 64
"""That a cluster has had, removed ones included: an id is used once for all time."""
MAX_PEER_FRAME_BYTES = 12 * MIB
PEER_FRAME_BYTES = MIB
"""Messages that are joined into one frame, unless one entry alone is larger."""
MAX_PEER_QUEUE_BYTES = 32 * MIB
"""That wait for one connection to a node; more are dropped, and consensus sends them again."""
MAX_PEER_CALLS = 256
"""Requests to one node that wait for their answer."""
MAX_PEER_CALL_S = 10
PEER_RETRY_MIN_S = 0.05
PEER_RETRY_MAX_S = 1.0
LIVENESS_TICKS = 2
"""Between two messages of a node to another: 100 ms."""
TAIL_BYTES = MIB
"""Entries of one group that are kept in memory for followers, beside those that are not decided."""
MAX_CATALOGUE_WAIT_S = 5
"""For what the catalogue's leader has decided to show on the node that asked it."""
MAX_LEADER_WAIT_S = 1.0
"""For a leader that is being elected, before a client is told to ask again."""
MAX_SUCCESSOR_WAIT_S = 2.0
"""For the next leader of a group that has lost its own, before a client is told of none."""
MAX_ELECTION_WAIT_S = 5.0
"""For preferred leaders to take over, before whoever asked for it is told that they did not."""
MAX_EARLY_MESSAGES = 4
"""Of one group that is being opened; more are dropped."""
MAX_EARLY_GROUPS = 1_024
MAX_LISTED_GROUPS = 100
"""Partitions of each kind that a cluster's status lists."""
MAX_MOVES_AT_ONCE = 8
"""Groups of one leader whose members change at the same time."""
DEFAULT_MOVES_MB_PER_S = 64
"""MiB a second that a node sends to replicas that are yet to come, all moves together."""
MAX_OPENED_AT_ONCE = 8
"""Replicas that are opened side by side in the background."""
MAX_CATALOGUE_VOTERS = 5
"""Further nodes follow the catalogue without a vote."""
INTERNAL_REPLICAS = 3
"""Of the log of groups, where there are so many nodes."""
MAX_REPLICAS = 7
"""Of one partition."""

FREED_MEMORY_KEPT_BYTES = 64 * MIB
"""Freed buffers that the process keeps for its next ones."""
LARGEST_HEAP_BLOCK_BYTES = 32 * MIB
"""A buffer up to this size comes from what was freed before (glibc allows no larger bound)."""

FULL_COLLECTION_S = 600
"""Between two looks for cyclic garbage everywhere."""

# Quotas (KIP-13, KIP-124, KIP-599, KIP-612): what one user, or one address, may ask of a node while
# nothing else was set. They are for whom one client must not hold up all others by mistake, and lie
# above what one event loop can carry of one kind.
DEFAULT_PRODUCER_BYTE_RATE = 1024 * MIB
"""A second, of one user."""
DEFAULT_CONSUMER_BYTE_RATE = 1024 * MIB
"""A second, of one user."""
DEFAULT_REQUEST_PERCENTAGE = 80
"""Of the event loop's time, of one user; 100 is all of it."""
DEFAULT_MUTATION_RATE = 500
"""Partitions made or deleted a second, of one user."""
DEFAULT_CONNECTION_RATE = 100
"""Connections a second, of one address."""
MAX_QUOTA_ENTITIES = 10_000
"""For which quotas are set."""
MAX_QUOTA_NAME_CHARACTERS = 255
MAX_QUOTA_BUCKETS = 10_000
"""Of one quota, that a node keeps at once; newcomers beyond it share one."""
QUOTA_SWEEP_S = 1.0
"""Between two looks for buckets that can be forgotten."""
MAX_THROTTLE_S = 30
"""For which a connection is not read; a longer wait is paid in parts."""
MAX_REQUEST_THROTTLE_S = 1
"""As Kafka's, for time of the event loop."""
MAX_THROTTLED_SOCKETS = 256
"""Refused for their rate and closed later, so that who is refused does not come back at once."""

# What clients tell of themselves (KIP-714).
MAX_TELEMETRY_INSTANCES = 10_000
"""Remembered at once; who was heard of least lately is forgotten."""
DEFAULT_PUSH_INTERVAL_S = 300
"""Kafka's default."""
MIN_PUSH_INTERVAL_S = 10
MAX_PUSH_INTERVAL_S = 3_600
MAX_PUSHED_BYTES = MIB
"""Packed (Kafka's telemetry.max.bytes)."""
MAX_UNPACKED_PUSH_BYTES = 4 * MIB
MAX_PUSHED_METRICS = 2_000
MAX_PUSHES_READ_AT_ONCE = 2
MAX_LOGGED_CLIENT_METRICS = 50
"""Of one report."""
MAX_SUBSCRIBED_METRICS = 100

# Messages.
MAX_STRING_BYTES = 32_767
MAX_MESSAGE_ELEMENTS = 1 << 17
"""Array elements of one request together: decoded, a narrow one outweighs its bytes."""
DECODED_BYTES_PER_FRAME_BYTE = 8
"""What a request may become in memory, as a multiple of its frame."""
SPARE_DECODED_BYTES = 2 * MIB
"""Beyond that, so that a request of many narrow rows can be of some length."""
MAX_TAGGED_FIELDS = 64
"""In one section of tagged fields (KIP-482), known and unknown ones."""
MAX_BATCH_BYTES = 8 * MIB
"""Largest record batch that a topic may allow."""
DEFAULT_BATCH_BYTES = MIB + 12
"""Kafka's default of message.max.bytes."""
MAX_ACLS_AT_ONCE = 1000
"""Rules, or filters of rules, in one request."""
MAX_DESCRIBED_PARTITIONS = 2000
"""On one page (Kafka's max.request.partition.size.limit)."""
MAX_FETCH_SESSIONS = 1000
"""Kept at once (Kafka's max.incremental.fetch.session.cache.slots)."""
MAX_FETCH_SESSIONS_PER_PRINCIPAL = 250
MAX_FETCH_SESSION_PARTITIONS = 200_000
"""In all sessions together."""
MIN_FETCH_SESSION_IDLE_S = 120
"""Before a session may make room for another (Kafka's bound of the same length)."""
MAX_FETCH_REQUEST_BYTES = 128 * KIB
"""About 4,000 partitions by topic id; each takes several microseconds of the event loop."""
MAX_FETCH_BYTES = 64 * MIB
MAX_FETCH_WAIT_MS = 60_000
MAX_DECOMPRESSED_BYTES = 64 * MIB
MAX_BATCHES_OPENED_AT_ONCE = 2
"""Decompressed and taken apart, for what a client has sent or asked, on the whole node."""
MAX_BATCH_RECORDS = 1 << 20

# Sealed files.
MAX_FRAME_PAYLOAD_BYTES = MIB
"""Entries of one frame together, unless one batch alone is larger."""
MAX_SEALED_FRAME_BYTES = MAX_BATCH_BYTES + 64 * KIB
MAX_EXTENT_BYTES = 1 << 44
MAX_SEGMENT_BYTES = 1024 * MIB
MAX_ACTIVE_FRAMES = 1 << 15
"""In the file that is written: a start reads it whole, whatever the segments' size."""
MAX_STAGED_BYTES = 64 * MIB
"""Entries of one log that wait for their flush."""
TAIL_CACHE_BYTES = 64 * MIB
"""Of all logs together; consumers who keep up cost no decryption."""
READ_AHEAD_BYTES = 8 * MIB
"""Of one scan of one log, read while its consumer takes the piece before."""
READ_WINDOW_BYTES = 64 * KIB
"""Of a file that is read frame by frame, in one call where its frames are small."""
READ_IN_HALVES_BYTES = 2 * MIB
"""From here on two threads read a piece of a log."""
MAX_READ_AHEADS = 8
"""Pieces that are kept for their consumers, of all logs together."""
MAX_OPEN_FILES = 512
INLINE_SEAL_BYTES = 64 * KIB
"""A flush smaller than this is sealed on the event loop: a thread hop would cost more."""
MAX_FLUSH_BYTES = 16 * MIB
"""Entries of one write and sync, unless one batch alone is larger."""
SEAL_AHEAD_BYTES = 512 * KIB
"""A frame is sealed while a sync still runs if it holds so much; less waits for company."""
FLUSH_BUFFERS_BYTES = 32 * MIB
"""Kept for the next flushes to be sealed into, of all logs together."""
FLUSH_BUFFER_STEP_BYTES = 256 * KIB
"""What a kept buffer's size is a multiple of; smaller flushes take memory of their own."""
DOCUMENT_RESERVE_BYTES = 2 * MIB
"""Kept from data files, so that manifests can be replaced, and files removed, on a full disk."""
FULL_DISK_RETRY_S = 1
"""Between attempts to write what waits for space."""
MIN_RESERVE_BYTES = MIB
MAX_RESERVE_BYTES = 64 * MIB
INDEX_CACHE_BYTES = 32 * MIB
"""Indexes of closed files that were read lately, of all logs together."""
INDEX_STRIDE_BYTES = 64 * KIB
"""Of a log between two points of its index."""
NEVER_MS = (1 << 63) - 1
"""The age at which nothing happens."""
MAX_DOCUMENT_BYTES = 8 * MIB
"""A manifest, an index, an identity or a snapshot, sealed."""
MAX_SNAPSHOT_BYTES = 7 * MIB
"""Of what a group's entries amount to; a log whose snapshot would be larger keeps its entries."""
SNAPSHOT_AFTER_BYTES = 8 * MIB
SNAPSHOT_AFTER_SIZES = 4
"""How much a log of commands grows before it is cut: at least so much, or so many snapshots."""
KEEP_STATE_AFTER_BYTES = 64 * MIB
KEEP_STATE_AFTER_SIZES = 16
"""How much a partition applies until its state is kept anew: so much, or so many times its size."""
KEEP_AT_END_PART = 16
"""Which part of that is enough for a log that is closed."""
MAX_KEPT_FOR_LAGGING_BYTES = 64 * MIB
"""Of entries that are of no more use but to a member that lags; beyond, it is started anew."""
MAX_REWRAPPED_AT_ONCE = 200
"""Keys of one request to the key provider, and of one slice of re-wrapping (DESIGN section 6)."""
REKEY_BYTES_PER_S = 64 * MIB
"""At most, while data is sealed anew under new keys: about a fifth of what one disk can do."""
MAX_CERTIFICATE_OF_DESTRUCTION_BYTES = 64 * KIB
MAX_WRAPPED_KEY_BYTES = 4 * KIB
MAX_JOURNAL_BYTES = 4 * MIB
"""The node journal is begun anew at a start that finds it larger."""
MAX_JOURNAL_RECORD_BYTES = 256 * KIB
NUMBERS_PER_LIFE = 1 << 20
"""What is left to each life of a node: each time that it opens a log takes one."""
SCRUB_PERIOD_S = 7 * 24 * 3600
"""In which every file is read once, to find damage before it is needed."""
SCRUB_SLICE_BYTES = 4 * MIB
SCRUB_REST_S = 600
"""Between two rounds, at the least."""
MARK_AFTER_IDLE_MS = 50
MARK_AT_LEAST_EVERY_MS = 1_000
"""A log that never goes idle is marked this often."""
MAX_SYNCS_AT_ONCE = 16
THREAD_SWITCH_S = 0.0005
"""For how long the event loop may run on while a thread wants the interpreter, and the reverse."""
SYNC_ALL_FROM = 8
"""Files to be synced at once, from which on the whole file system is synced in one call."""
SLOW_SYNC_ALL_S = 0.02
SYNC_EACH_S = 100e-6
"""A file's share of syncing many by themselves, from MAX_SYNCS_AT_ONCE threads."""
SYNC_ALL_PAUSE_S = 30
"""Without such calls, after one slower than SLOW_SYNC_ALL_S and than SYNC_EACH_S for each file."""
MAX_READS_AT_ONCE = 16

MAX_COMPACTED_KEYS = 250_000
"""Different keys that one pass of compaction notes; about 40 MB."""
HOUSEKEEPING_S = 300
"""Between looks at a partition's retention (Kafka's log.retention.check.interval.ms)."""

# Catalogue.
MAX_TOPICS = 10_000
MAX_PARTITIONS = 100_000
MAX_PARTITIONS_PER_TOPIC = 1_000
MAX_TOPIC_NAME_CHARACTERS = 249
MAX_PRINCIPAL_NAME_CHARACTERS = 249
MAX_POLICY_BYTES = MIB

# Producers, as one partition remembers them (KIP-98).
MAX_PRODUCERS_PER_PARTITION = 10_000
PRODUCER_EXPIRY_MS = 86_400_000
"""Silence after which a producer's sequence is forgotten (Kafka's producer.id.expiration.ms)."""
PRODUCER_GRACE_MS = 600_000
"""Silence below which a producer is never forgotten to make room for another."""
PRODUCER_ID_BLOCK = 1_000
"""Producer ids that one catalogue command hands to a node."""

# Groups.
MAX_GROUPS = 10_000
MAX_GROUP_NAME_CHARACTERS = 255
MAX_GROUP_INSTANCE_ID_CHARACTERS = 249
MAX_GROUP_PROTOCOLS = 64
MAX_GROUP_MEMBERS = 1_000
MAX_GROUP_METADATA_BYTES = MIB
MIN_SESSION_TIMEOUT_MS = 6_000
MAX_SESSION_TIMEOUT_MS = 1_800_000
MAX_OFFSET_METADATA_BYTES = 4 * KIB

# Decisions.
MAX_CACHED_DECISIONS = 65_536
MAX_POLICY_STALENESS_S = 5

MAX_TERM = (1 << 31) - 1

# Replication (DESIGN section 7). Ticks are counted by the core and given by the shell.
RAFT_TICK_MS = 50
RAFT_HEARTBEAT_TICKS = 2
RAFT_ELECTION_TICKS = 10
"""Silence of a leader before which nobody replaces it: 500 ms."""
RAFT_ELECTION_TICKS_MAX = 18
"""Each member waits a random time between the two: 500 to 900 ms."""
RAFT_TURN_TICKS = 3
"""Between the campaigns of two members that know their leader to be gone: each gets its turn."""
RAFT_ASK_TICKS = 2
"""After which a member that asks for support asks again: it raises no term by it."""
RAFT_RETRY_TICKS = 4
"""Silence after which a member is asked what it got, and a probe is sent again."""
MAX_RAFT_MEMBERS = 15
MAX_APPEND_ENTRIES = 1024
MAX_APPEND_BYTES = MIB
"""Entries of one append together, unless one alone is larger."""
MAX_APPENDS_IN_FLIGHT = 16
"""To one follower, of one group."""
MAX_PROMOTION_LAG_ENTRIES = 1024
"""How far behind a learner may be when it becomes a voter."""
MAX_READS_WAITING = 4096
"""Reads of one group whose leader is still proving itself."""

invariant(
    MAX_FRAME_BYTES_UNAUTHENTICATED <= MAX_HANDSHAKE_BYTES, "a frame fits its handshake allowance"
)
invariant(MAX_FRAME_BYTES < CLIENT_REQUEST_BUDGET_BYTES, "the largest request can be admitted")
invariant(MAX_FETCH_BYTES < CLIENT_REPLY_BUDGET_BYTES, "the largest reply can be admitted")
invariant(MAX_BATCH_BYTES < MAX_SEALED_FRAME_BYTES, "the largest batch fits a sealed frame")
invariant(
    MAX_SEALED_FRAME_BYTES < MAX_SEGMENT_BYTES < MAX_EXTENT_BYTES, "frames fit segments fit extents"
)
invariant(PRODUCER_GRACE_MS < PRODUCER_EXPIRY_MS, "producers are forgotten after their grace")
invariant(MAX_BATCH_BYTES < MAX_STAGED_BYTES, "an empty log takes the largest batch")
invariant(MAX_POLICY_BYTES < MAX_STRUCTURE_BYTES < MAX_FRAME_BYTES, "a policy fits a native frame")
invariant(
    MAX_PARTITIONS + MAX_TOPICS < MAX_MESSAGE_ELEMENTS, "one request can name every partition"
)
invariant(
    DECODED_BYTES_PER_FRAME_BYTE * MAX_BATCH_BYTES <= MAX_DECOMPRESSED_BYTES,
    "what the largest batch may become is within the bound of all",
)
invariant(MAX_BATCH_BYTES < MAX_FRAME_BYTES, "the largest batch fits a request")
invariant(
    MAX_BATCH_BYTES + PEER_FRAME_BYTES < MAX_PEER_FRAME_BYTES < MAX_PEER_QUEUE_BYTES,
    "the largest batch fits a delivery, and a delivery its queue",
)
invariant(MAX_DOCUMENT_BYTES < MAX_SEALED_FRAME_BYTES, "the largest document fits one frame")
invariant(
    MAX_SNAPSHOT_BYTES < MAX_DOCUMENT_BYTES < MAX_PEER_FRAME_BYTES - PEER_FRAME_BYTES,
    "the largest snapshot fits a document and a delivery",
)
invariant(MAX_JOURNAL_RECORD_BYTES < MAX_FRAME_PAYLOAD_BYTES, "a journal record fits a frame")
invariant(MAX_THROTTLE_S < MAX_IDLE_S, "who is held back is not taken for idle")
invariant(
    RAFT_HEARTBEAT_TICKS * 2 <= RAFT_ELECTION_TICKS < RAFT_ELECTION_TICKS_MAX,
    "a lost heartbeat alone makes no election",
)
invariant(
    RAFT_ASK_TICKS < RAFT_TURN_TICKS < RAFT_ELECTION_TICKS,
    "who was refused too early has asked again before the next one's turn",
)

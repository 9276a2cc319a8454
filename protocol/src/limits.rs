//! Every bound of the wire and of the multiplexer, with the reason for its number.

use std::time::Duration;

/// Octets before the payload of every frame: type (1) and stream id (4).
pub const FRAME_HEADER_LEN: usize = 5;

/// Longest JSON head of a REQUEST or RESPONSE, and longest JSON payload of the other frames, in octets. The longest
/// target is a signed link ([`crate::signed_link::MAX_TOKEN_LEN`], 9.7 kB); the allowed headers, escaped, fit into
/// the rest, since the relay refuses a public request whose head would not.
pub const MAX_HEAD_LEN: usize = 32 * 1024;

/// Longest request body in octets. A search is a few hundred; this is what the public API promises to take.
pub const MAX_REQUEST_BODY_LEN: usize = 64 * 1024;

/// Longest payload of a DATA frame in octets: two TLS records. An agent sends shorter ones where a full one would take
/// long (see [`BURST_TIME`]).
pub const MAX_DATA_LEN: usize = 32 * 1024;

/// Payload of a full DATA frame as this implementation sends it: with the frame's 5 octets and the 8 octets of a
/// masked WebSocket header it fills exactly two TLS records of 16 KiB.
pub const FULL_DATA_LEN: usize = 2 * 16 * 1024 - FRAME_HEADER_LEN - 8;

/// Longest body that this implementation sends in an ANSWER, in octets: error texts, searches and the few octets by
/// which players begin. What is longer is better begun than waited for.
pub const ANSWER_BODY_LEN: usize = 16 * 1024;

/// Longest RESET reason in octets: one sentence.
pub const MAX_REASON_LEN: usize = 256;

/// Longest WebSocket message that either side accepts: a REQUEST with the longest head and body, its frame header
/// and the four octets of the head's length. Every other frame is shorter.
pub const MAX_MESSAGE_LEN: usize = FRAME_HEADER_LEN + 4 + MAX_HEAD_LEN + MAX_REQUEST_BODY_LEN;

/// Most streams open at a time on one tunnel. 256 first windows make exactly the half of [`TUNNEL_WINDOW_BUDGET`] that
/// windows do not grow into, so a stream that may be opened can also be credited.
pub const MAX_STREAMS: usize = 256;

/// Most calls that wait for a tunnel's driver to open their streams. The driver empties the queue whenever it runs;
/// twice the streams that there can be means that it does not run, and more callers would wait in vain.
pub const MAX_WAITING_CALLS: usize = 2 * MAX_STREAMS;

/// Octets of body that a relay lets a stream send before it returns any credit. At 100 Mbit/s this covers 20 ms of
/// round trip; longer paths grow the window (see [`MAX_WINDOW`]).
pub const INITIAL_WINDOW: u32 = 256 * 1024;

/// Largest window of a stream: covers 200 Mbit/s at 300 ms of round trip.
pub const MAX_WINDOW: u32 = 8 * 1024 * 1024;

/// Largest sum of the windows of one tunnel, in octets: what one site can make the relay hold at worst.
pub const TUNNEL_WINDOW_BUDGET: u64 = 2 * MAX_STREAMS as u64 * INITIAL_WINDOW as u64;

/// Largest sum of the windows of all tunnels of one relay process, in octets, unless configured otherwise.
pub const PROCESS_WINDOW_BUDGET: u64 = 2 * 1024 * 1024 * 1024;

/// A DATA frame uses up at least this much credit, so that a window of one-octet frames cannot cost the relay a
/// hundred times its octets in bookkeeping: a queued chunk costs about this much besides its content.
pub const MIN_DATA_COST: u32 = 64;

/// A window is doubled when half of it is received and consumed within this many minimum round trips. Credit comes
/// back in halves, so half a window takes one round trip where the window is what limits a stream; the link's queues
/// may double that, and what TCP has lost comes a round trip later.
pub const WINDOW_GROWTH_RTTS: u32 = 3;
/// ...or within this time, if that is longer: round trips on a local network are too short to time. A window that is
/// taken in a millisecond is at most what a small answer may find before it in the receiver's buffers.
pub const WINDOW_GROWTH_FLOOR: Duration = Duration::from_micros(500);

/// How long what has left the lanes may hold up the next answer, beside what waits in the kernel: a tenth of what
/// people notice.
pub const BURST_TIME: Duration = Duration::from_millis(16);
/// The least that leaves the lanes at a time, in octets: with the frame's 5, the 8 of a masked WebSocket header and the
/// 22 of TLS three whole packets of the networks that there are (1,500 octets, or 1,492 with PPPoE). A congestion
/// control that counts packets takes one that is not full for a full one, and the link for a quicker one.
pub const SHORTEST_BURST: usize = 3 * 1440 - 22 - FRAME_HEADER_LEN - 8;
/// The most that leaves the lanes at a time, in octets: two full DATA frames make large writes.
pub const FULL_BURST: usize = 32 * 1024;
/// Octets that may wait unsent in the kernel on a quick link, however short the way: one DATA frame.
pub const UNSENT_FLOOR: usize = 32 * 1024;
/// The most that may wait unsent in the kernel, in octets: 25 ms at 335 Mbit/s.
pub const FULL_UNSENT: usize = 1024 * 1024;
/// How long the longest way has the kernel hold unsent octets: longer than a busy machine lets the agent wait.
pub const UNSENT_TIME: Duration = Duration::from_millis(25);
/// How long octets are counted to find out how quick the link is: six of the shortest bursts at 2 Mbit/s.
pub const PACE_INTERVAL: Duration = Duration::from_millis(100);

/// While other requests come, a window is used for no more octets than these for every microsecond of the shortest
/// round trip, which is what 4 Gbit/s have under way, though always for [`INITIAL_WINDOW`]: on a short way the rest
/// only waits in buffers, and every small answer behind it.
pub const SHARED_WINDOW_PER_MICROSECOND: u32 = 512;
/// How long after a request came beside others a tunnel still counts as shared: longer than the gap between the
/// requests of a busy site, shorter than a download that is worth a large window.
pub const SHARED_FOR: Duration = Duration::from_secs(1);

/// Octets of body that an agent holds ready per stream: about a tenth of a second at 20 Mbit/s, and eight full
/// frames for the lanes to choose from.
pub const SEND_QUEUE_LEN: usize = 256 * 1024;

/// Octets of body after which a stream counts as bulk. Search answers, error texts and the first second of a
/// recording stay below; so they overtake downloads.
pub const SMALL_ANSWER_LEN: u64 = 64 * 1024;

/// How many frames of small answers may go before one bulk frame at the latest: bulk keeps at least a ninth.
pub const SMALL_RUN: u32 = 8;

/// Silence after which a side pings.
pub const PING_AFTER: Duration = Duration::from_secs(15);
/// Interval of pings while a stream is open or was recently: a dead link is noticed before a listener hangs up,
/// and round trips are measured while they matter.
pub const PING_AFTER_BUSY: Duration = Duration::from_secs(2);
/// How long after its last stream a tunnel still counts as busy.
pub const BUSY_FOR: Duration = Duration::from_secs(60);
/// Silence after which a busy side takes its peer for lost, and an agent dials beside the silent tunnel: the pong of a
/// ping is a second late.
pub const SILENT_AFTER: Duration = Duration::from_secs(3);
/// Silence after which the peer is dead: three pings unanswered.
pub const DEAD_AFTER: Duration = Duration::from_secs(45);

/// How long a relay waits for HELLO after the upgrade, and an agent for WELCOME.
pub const GREETING_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the relay waits for RESPONSE; the agent answers by itself within 12 s, its driver within 10 s.
pub const RELAY_DEADLINE: Duration = Duration::from_secs(15);
/// How long the agent lets its own service work on a response head.
pub const AGENT_DEADLINE: Duration = Duration::from_secs(12);

/// How long a stream with credit may send nothing before the relay gives it up: longer than any stall of a disk
/// that recovers, shorter than a listener's patience.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a stream may stay without credit, its listener taking nothing: a browser that paused keeps its
/// connection; an hour is a long lunch.
pub const PAUSE_TIMEOUT: Duration = Duration::from_secs(3600);

/// How long a side that closes waits for the peer's close frame.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

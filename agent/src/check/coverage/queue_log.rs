//! Reads Asterisk's queue_log: which calls were answered, when, and in which queue.
//!
//! A line is `time|call id|queue|agent|event|data…` (Asterisk's documentation, "Queue Logs"). The time is in seconds
//! since the Unix epoch, from Asterisk 13 on also with a fraction.

use std::{
    collections::{HashMap, HashSet},
    io::{self, BufRead},
};

use jiff::Timestamp;

/// Longest line in bytes; a longer one is not a line of a queue_log.
const MAX_LINE: usize = 64 << 10;

/// An answered call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The call id.
    pub id: String,
    /// When it came in.
    pub began: Timestamp,
    /// When it was first answered.
    pub at: Timestamp,
    /// The queue in which it was first answered.
    pub queue: String,
    /// The agent who answered.
    pub agent: String,
}

/// The contents of a queue_log.
#[derive(Debug, Default)]
pub struct QueueLog {
    /// The calls that were answered, each once, in the order of the file.
    pub calls: Vec<Answered>,
    /// Lines that were read.
    pub lines: u64,
    /// Lines among them that are not lines of a queue_log.
    pub unread: u64,
}

/// The period in which a call must have been answered.
#[derive(Debug, Clone, Copy, Default)]
pub struct Period {
    /// Only calls answered at this time or later.
    pub since: Option<Timestamp>,
    /// Only calls answered before this time.
    pub until: Option<Timestamp>,
}

impl Period {
    fn has(&self, at: Timestamp) -> bool {
        self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at < until)
    }
}

/// Reads a queue_log.
///
/// # Errors
/// The error of reading the file. Lines that cannot be understood are counted.
pub fn read(mut log: impl BufRead, period: Period) -> io::Result<QueueLog> {
    let mut to_text = QueueLog::default();
    let mut began: HashMap<String, Timestamp> = HashMap::new();
    let mut known: HashSet<String> = HashSet::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        if io::Read::take(&mut log, MAX_LINE as u64).read_until(b'\n', &mut line)? == 0 {
            return Ok(to_text);
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        to_text.lines += 1;
        let text = String::from_utf8_lossy(&line);
        let Some(event) = Event::read(text.trim_end()) else {
            to_text.unread += 1;
            continue;
        };
        if !event.is_of_a_call() {
            continue;
        }
        let first = *began.entry(event.call.to_owned()).or_insert(event.at);
        if event.name == "CONNECT" && period.has(event.at) && known.insert(event.call.to_owned()) {
            to_text.calls.push(Answered {
                id: event.call.to_owned(),
                began: first,
                at: event.at,
                queue: event.queue.to_owned(),
                agent: event.agent.to_owned(),
            });
        }
    }
}

struct Event<'a> {
    at: Timestamp,
    call: &'a str,
    queue: &'a str,
    agent: &'a str,
    name: &'a str,
}

impl<'a> Event<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let mut fields = line.split('|');
        let mut next = || fields.next();
        let time = next()?;
        let call = next()?;
        let queue = next()?;
        let agent = next()?;
        let name = next()?;
        let seconds = time.split('.').next()?.parse().ok()?;
        Some(Self { at: Timestamp::from_second(seconds).ok()?, call, queue, agent, name })
    }

    /// Whether the event belongs to a call. Events of queues and agents have `NONE` as their call id.
    fn is_of_a_call(&self) -> bool {
        !self.call.is_empty() && self.call != "NONE"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
1711444400|NONE|NONE|NONE|QUEUESTART|
1711444502|1711444502.17|sales|NONE|ENTERQUEUE||34911223344|1
1711444510.123456|1711444502.17|sales|SIP/101|CONNECT|8|1711444503.18|4
1711444600|1711444502.17|sales|SIP/101|COMPLETECALLER|8|90|1
1711444600|1711444502.17|support|SIP/102|CONNECT|8|1711444503.19|4
nonsense

1711444700|1711444700.20|sales|NONE|ENTERQUEUE||x|1
1711444710|1711444700.20|sales|NONE|ABANDON|1|1|10
1711444800|1711444800.21|support|Agent/7|CONNECT|0|1711444801.22|1";

    fn calls(period: Period) -> Vec<String> {
        read(LOG.as_bytes(), period).unwrap().calls.into_iter().map(|call| call.id).collect()
    }

    #[test]
    fn answered_calls_count_once_and_abandoned_ones_do_not() {
        let to_text = read(LOG.as_bytes(), Period::default()).unwrap();
        assert_eq!((to_text.lines, to_text.unread, to_text.calls.len()), (9, 1, 2));
        let first = &to_text.calls[0];
        assert_eq!((first.began.as_second(), first.at.as_second()), (1_711_444_502, 1_711_444_510));
        assert_eq!((&*first.queue, &*first.agent), ("sales", "SIP/101"));
    }

    #[test]
    fn a_period_is_of_answers() {
        let at = |seconds| Some(Timestamp::from_second(seconds).unwrap());
        assert_eq!(
            calls(Period { since: at(1_711_444_511), until: None }),
            ["1711444502.17", "1711444800.21"]
        );
        assert_eq!(calls(Period { since: at(1_711_444_700), until: None }), ["1711444800.21"]);
        assert_eq!(calls(Period { since: None, until: at(1_711_444_600) }), ["1711444502.17"]);
    }

    #[test]
    fn a_file_that_is_something_else_is_no_calls() {
        let to_text = read(&[0xff; 200_000][..], Period::default()).unwrap();
        assert_eq!((to_text.calls.len(), to_text.unread), (0, to_text.lines));
    }
}

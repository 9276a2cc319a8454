//! Writes the log in a thread of its own, so that a request does not wait for standard error.
//!
//! A thread that logs appends its line to a buffer. The log's thread takes the whole buffer and writes it at once: a
//! busy program makes one write for the lines of an [`INTERVAL`], not one for each line. The buffer is bounded, and
//! lines without room in it are lost, counted and reported: a reader of the log that stops must not stop the program.
//!
//! ```text
//!            first line                   written
//!   parked ─────────────▶ writing ───────────────────▶ pausing (an INTERVAL, or until a flush)
//!      ▲                     ▲           lines came       │
//!      │                     └────────────────────────────┤
//!      └──────────────────────────────────────────────────┘
//!                           no lines came
//! ```

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, Write},
    mem,
    panic::{self, PanicHookInfo},
    sync::Arc,
    thread,
    time::Duration,
};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tracing_subscriber::fmt::MakeWriter;

/// Most bytes of lines that wait. At 10,000 requests a second with 250 bytes each, they are the lines of 0.4 s: longer
/// than a loaded machine keeps the log's thread waiting. A second buffer of this size may be in the thread's hands.
const CAPACITY: usize = 1024 * 1024;
/// The thread waits for this time after each write while lines keep coming. A line is seen that much later at most, and
/// a busy program pays for 200 writes a second. The first line after a calm time is written at once.
const INTERVAL: Duration = Duration::from_millis(5);
/// Most bytes of one write: what the buffer of a pipe holds (pipe(7)), so that progress is seen while the reader is
/// slow.
const MAX_WRITE: usize = 64 * 1024;
/// A flush gives up if standard error takes nothing for this time. Its reader has probably stopped, and the program
/// must be able to end.
const PATIENCE: Duration = Duration::from_secs(1);

/// The lines that wait for the log's thread. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Lines(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Wakes the log's thread: for the first line if it is parked, or for a flush.
    wake: Condvar,
    /// Wakes flushes after each write.
    progress: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// The log's thread is parked until a line comes.
    parked: bool,
    /// Lines that were lost and not reported yet.
    lost: u64,
    /// Bytes that were accepted since the start.
    accepted: u64,
    /// Of these, the bytes that were written, or lost because standard error failed.
    done: u64,
    /// The thread does not pause until this many bytes are done.
    flush_to: u64,
}

impl Lines {
    pub(super) fn new() -> Self {
        // A buffer grows by doubling, from here to exactly the capacity.
        let state = State { waiting: Vec::with_capacity(MAX_WRITE), ..State::default() };
        Self(Arc::new(Shared { state: Mutex::new(state), ..Shared::default() }))
    }

    /// Starts the log's thread, which writes to `out` as long as the process runs.
    ///
    /// # Errors
    /// If the system has no thread.
    pub(super) fn write_to(&self, out: impl Write + Send + 'static) -> io::Result<()> {
        let lines = self.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || lines.write_forever(out))?;
        Ok(())
    }

    /// Writes panics as lines of the log too, behind the lines that came before. All of them are written before a
    /// panic goes on, because it may end the process.
    ///
    /// The usual hook would write to standard error itself: its text would overtake the lines that wait, and its thread
    /// would stop for as long as the reader of the log does. `tracing` is not used, because the panic may have come
    /// from within it.
    pub(super) fn write_panics(&self) {
        let lines = self.clone();
        panic::set_hook(Box::new(move |panic| {
            lines.append(describe(panic).as_bytes());
            lines.flush();
        }));
    }

    /// Appends text that consists of whole lines. It is lost if there is no room.
    pub(super) fn append(&self, text: &[u8]) {
        let mut state = self.lock();
        if state.waiting.len() + text.len() > CAPACITY {
            state.lost += count_lines(text);
            return;
        }
        state.waiting.extend_from_slice(text);
        state.accepted += text.len() as u64;
        if mem::take(&mut state.parked) {
            drop(state);
            self.0.wake.notify_one();
        }
    }

    /// Waits until all lines so far are written. Gives up if standard error takes nothing for [`PATIENCE`].
    pub(super) fn flush(&self) {
        let mut state = self.lock();
        let target = state.accepted;
        state.flush_to = target;
        self.0.wake.notify_one();
        while state.done < target {
            let before = state.done;
            let waited = self.0.progress.wait_for(&mut state, PATIENCE);
            if waited.timed_out() && state.done == before {
                return;
            }
        }
    }

    fn write_forever(&self, mut out: impl Write) {
        let mut batch = Vec::with_capacity(MAX_WRITE);
        loop {
            let lost = self.next(&mut batch);
            let written = self.write_batch(&batch, &mut out);
            batch.clear();
            // The memory of a burst is given back.
            batch.shrink_to(MAX_WRITE);
            match written {
                Ok(()) if lost > 0 => tracing::warn!(
                    lines = lost,
                    code = "log.lines_lost",
                    "lines of the log were lost: standard error was closed, or its reader too slow"
                ),
                Ok(()) => {}
                // It is reported when standard error can be written again.
                Err(Failed { lines }) => self.lock().lost += lost + lines,
            }
        }
    }

    /// Waits for lines, and exchanges them for the empty `batch`. Returns how many lines were lost since the last time.
    fn next(&self, batch: &mut Vec<u8>) -> u64 {
        let mut state = self.lock();
        self.0.wake.wait_while_for(&mut state, |state| state.done >= state.flush_to, INTERVAL);
        while state.waiting.is_empty() {
            state.parked = true;
            self.0.wake.wait(&mut state);
        }
        state.parked = false;
        mem::swap(&mut state.waiting, batch);
        mem::take(&mut state.lost)
    }

    /// Writes lines, and waits while standard error takes nothing.
    fn write_batch(&self, mut lines: &[u8], out: &mut impl Write) -> Result<(), Failed> {
        while !lines.is_empty() {
            match out.write(&lines[..lines.len().min(MAX_WRITE)]) {
                Ok(written) if written > 0 => {
                    self.done(written);
                    lines = &lines[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Another process with the same standard error has made it non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(INTERVAL),
                Ok(_) | Err(_) => {
                    self.done(lines.len());
                    return Err(Failed { lines: count_lines(lines) });
                }
            }
        }
        Ok(())
    }

    fn done(&self, bytes: usize) {
        self.lock().done += bytes as u64;
        self.0.progress.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }
}

/// Lines that could not be written.
#[derive(Debug)]
struct Failed {
    lines: u64,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// Takes each text whole, as the layer of `tracing-subscriber` passes each line.
impl Write for &Lines {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.append(text);
        Ok(text.len())
    }

    /// Does nothing: the log's thread writes by itself.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn count_lines(text: &[u8]) -> u64 {
    text.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// What the usual panic hook prints.
fn describe(panic: &PanicHookInfo<'_>) -> String {
    let backtrace = Backtrace::capture();
    let is_captured = backtrace.status() == BacktraceStatus::Captured;
    let backtrace = if is_captured { format!("stack backtrace:\n{backtrace}\n") } else { String::new() };
    format!("thread '{}' {panic}\n{backtrace}", thread::current().name().unwrap_or("<unnamed>"))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// Standard error of a test: every write waits until the test takes it.
    struct Reader {
        writes: Receiver<Vec<u8>>,
    }

    impl Reader {
        fn take(&self) -> String {
            String::from_utf8(self.writes.recv().unwrap()).unwrap()
        }

        /// Takes text until it contains `last`.
        fn take_until(&self, last: &str) -> String {
            let mut text = String::new();
            while !text.contains(last) {
                text += &self.take();
            }
            text
        }
    }

    struct Slow(SyncSender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.send(text.to_vec()).map_err(io::Error::other)?;
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A log whose reader takes nothing by itself.
    fn stopped() -> (Lines, Reader) {
        let (sender, writes) = sync_channel(0);
        let lines = Lines::new();
        lines.write_to(Slow(sender)).unwrap();
        (lines, Reader { writes })
    }

    /// Logs line 0, and waits until the thread has it in its hands.
    fn first_is_taken(lines: &Lines) {
        lines.append(line(0).as_bytes());
        while !lines.lock().waiting.is_empty() {
            thread::yield_now();
        }
    }

    fn line(number: usize) -> String {
        format!("{number:0>99}\n")
    }

    #[test]
    fn the_lines_of_an_interval_are_one_write() {
        let (lines, reader) = stopped();
        first_is_taken(&lines);
        (1..100).for_each(|number| lines.append(line(number).as_bytes()));
        assert_eq!(reader.take(), line(0));
        assert_eq!(reader.take(), (1..100).map(line).collect::<String>());
    }

    #[test]
    fn a_reader_that_stops_does_not_stop_the_program() {
        let (lines, reader) = stopped();
        first_is_taken(&lines);
        let kept = CAPACITY / 100;
        (1..=3 * kept).for_each(|number| lines.append(line(number).as_bytes()));
        assert_eq!(lines.lock().lost, 2 * kept as u64);
        assert!(lines.lock().waiting.capacity() <= CAPACITY);
        // Once the reader goes on, everything that was accepted arrives, in order.
        assert_eq!(reader.take_until(&line(kept)), (0..=kept).map(line).collect::<String>());
    }

    #[test]
    fn a_flush_waits_for_a_slow_reader_and_not_for_a_stopped_one() {
        let (lines, reader) = stopped();
        for number in 0..CAPACITY / 100 {
            lines.append(line(number).as_bytes());
        }
        let reading = thread::spawn(move || {
            let text = reader.take_until(&line(CAPACITY / 100 - 1));
            (text, reader)
        });
        lines.flush();
        let (text, reader) = reading.join().unwrap();
        assert_eq!(text.len(), CAPACITY / 100 * 100);
        lines.append(b"not read yet\n");
        lines.flush();
        assert_eq!(reader.take(), "not read yet\n");
    }

    #[test]
    fn lines_for_a_closed_standard_error_are_lost_and_counted() {
        let (lines, reader) = stopped();
        drop(reader);
        for number in 0..10 {
            lines.append(line(number).as_bytes());
            lines.flush();
        }
        // The thread notes the loss after the flush has returned.
        while lines.lock().lost < 10 {
            thread::yield_now();
        }
        let state = lines.lock();
        assert_eq!((state.lost, state.done), (10, state.accepted));
    }

    #[test]
    fn a_non_blocking_standard_error_gets_every_line() {
        struct Busy(Slow, bool);
        impl Write for Busy {
            fn write(&mut self, text: &[u8]) -> io::Result<usize> {
                self.1 = !self.1;
                if self.1 { Err(io::ErrorKind::WouldBlock.into()) } else { self.0.write(&text[..1]) }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (sender, writes) = sync_channel(0);
        let lines = Lines::new();
        lines.write_to(Busy(Slow(sender), false)).unwrap();
        lines.append(b"one\ntwo\n");
        assert_eq!(Reader { writes }.take_until("two\n"), "one\ntwo\n");
    }
}

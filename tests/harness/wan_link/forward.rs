//! The thread between the two devices.

use std::{
    array,
    os::fd::OwnedFd,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    io::{Errno, write},
};
use tun_rs::SyncDevice;

use super::{
    Direction,
    pipe::{Pipe, Settings},
};

/// How long the thread sleeps after it has moved packets. Packets that arrive meanwhile are moved together: at 17,000
/// packets per second, a wake-up for each would cost more than moving it. All times here have an error of up to this
/// much.
const REST: Duration = Duration::from_micros(100);

/// How many packets are taken from one device before it is the other's turn.
const TURN: usize = 256;

/// Length of the longest packet, in bytes. The MTU of the devices is smaller.
const LONGEST: usize = 2048;

/// The devices and the pipes. Pipe 0 begins at device 0, the relay's; pipe 1 begins at device 1, the site's.
pub(super) struct Forwarder {
    devices: [SyncDevice; 2],
    pipes: [Mutex<Pipe>; 2],
    /// Written to when the thread must end.
    end: OwnedFd,
}

impl std::fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forwarder").field("pipes", &self.pipes).finish_non_exhaustive()
    }
}

impl Forwarder {
    /// Connects the relay's device and the site's. The settings are for the packets that come from each of them.
    pub(super) fn new(devices: [SyncDevice; 2], settings: [Settings; 2]) -> Self {
        let (now, mut seed) = (Instant::now(), 0);
        let pipes = settings.map(|settings| {
            seed += 1;
            Mutex::new(Pipe::new(settings, seed, now))
        });
        let end = eventfd(0, EventfdFlags::CLOEXEC).expect("a descriptor");
        Self { devices, pipes, end }
    }

    pub(super) fn pipe(&self, direction: Direction) -> MutexGuard<'_, Pipe> {
        self.lock(match direction {
            Direction::Down => 0,
            Direction::Up => 1,
        })
    }

    fn lock(&self, from: usize) -> MutexGuard<'_, Pipe> {
        self.pipes[from].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes [`Forwarder::run`] return.
    pub(super) fn stop(&self) {
        let _ = write(&self.end, &1u64.to_ne_bytes());
    }

    /// Moves packets until [`Forwarder::stop`] is called.
    pub(super) fn run(&self) {
        let mut buffer = [0; LONGEST];
        loop {
            let moved: [bool; 2] = array::from_fn(|from| self.move_packets(from, &mut buffer));
            let ended = if moved.contains(&true) {
                self.wait(&[], Some(REST))
            } else {
                let next = [0, 1].into_iter().filter_map(|from| self.lock(from).next()).min();
                self.wait(&self.devices, next.map(|next| next.saturating_duration_since(Instant::now())))
            };
            if ended {
                return;
            }
        }
    }

    /// Moves the packets of one direction that are ready. Returns whether there were any.
    fn move_packets(&self, from: usize, buffer: &mut [u8]) -> bool {
        let mut pipe = self.lock(from);
        let now = Instant::now();
        let mut taken = 0;
        while taken < TURN
            && let Ok(len) = self.devices[from].recv(buffer)
        {
            pipe.push(&buffer[..len], now);
            taken += 1;
        }
        // An error is ignored: a removed device loses packets as an unplugged cable does.
        let delivered = pipe.deliver(now, |packet| drop(self.devices[1 - from].send(packet)));
        taken + delivered > 0
    }

    /// Waits for packets from the devices, but not longer than `limit`. Returns whether the thread must end.
    fn wait(&self, devices: &[SyncDevice], limit: Option<Duration>) -> bool {
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let mut watched: Vec<_> = devices.iter().map(|device| PollFd::new(device, PollFlags::IN)).collect();
        watched.push(PollFd::new(&self.end, PollFlags::IN));
        let waited = poll(&mut watched, limit.as_ref());
        // A device that was removed with its namespace never has a packet again.
        let gone = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
        watched.last().is_some_and(|end| !end.revents().is_empty())
            || watched.iter().any(|fd| fd.revents().intersects(gone))
            || waited.is_err_and(|error| error != Errno::INTR)
    }
}

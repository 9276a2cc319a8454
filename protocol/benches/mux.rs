//! Cost of both multiplexers with their frames and windows, without a network: what a tunnel costs besides sockets, TLS
//! and files.
//!
//! The pair compares every byte that arrives; the figures include this.

#![expect(clippy::expect_used, reason = "a measurement that cannot go on has nothing to say")]

use std::time::Duration;

use audiovault_protocol::testing::pair::{Outcome, Pair};
use divan::{Bencher, counter::BytesCount};

fn main() {
    divan::main();
}

/// A pair whose sides have greeted each other, and whose messages arrive in the next step.
fn pair() -> Pair {
    let mut pair = Pair::greeted(256).expect("a greeting");
    pair.delay = Duration::ZERO;
    pair
}

/// Opens a stream for a response of `bytes` bytes and runs it to its end.
fn answer(pair: &mut Pair, bytes: u64) {
    let stream = pair.open(bytes, false).expect("room for a stream");
    while pair.listeners[&stream].outcome == Outcome::Open {
        pair.run(1).expect("both keep to the protocol");
    }
    let listener = pair.listeners.remove(&stream);
    assert!(listener.is_some_and(|listener| listener.outcome == Outcome::Complete));
    pair.data_order.clear();
}

/// Moves a body through windows that credit limits, at first 256 KiB.
#[divan::bench(args = [1024 * 1024])]
fn move_bytes(bencher: Bencher, bytes: u64) {
    let mut pair = pair();
    bencher.counter(BytesCount::new(bytes)).bench_local(|| answer(&mut pair, bytes));
}

/// Opens a stream and answers it with one small frame: a search.
#[divan::bench(args = [1024])]
fn open_and_answer(bencher: Bencher, bytes: u64) {
    let mut pair = pair();
    bencher.bench_local(|| answer(&mut pair, bytes));
}

/// The same while this many other streams wait for their paused listeners. The pair checks for each of them in every
/// step whether it is still paused.
#[divan::bench(args = [20, 200])]
fn open_and_answer_beside_paused(bencher: Bencher, paused: usize) {
    let mut pair = pair();
    for _ in 0..paused {
        pair.open(1024 * 1024, true).expect("room for a stream");
    }
    pair.settle().expect("both keep to the protocol");
    bencher.bench_local(|| answer(&mut pair, 1024));
}

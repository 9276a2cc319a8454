use proptest::prelude::*;

use super::*;
use crate::limits::{MAX_DATA_LEN, MAX_STREAMS, TUNNEL_WINDOW_BUDGET};
use crate::testing::start_of_time;

fn budgets(tunnel: u64, process: u64) -> Budgets {
    Budgets { tunnel: WindowBudget::new(tunnel), process: WindowBudget::new(process) }
}

const MS: Duration = Duration::from_millis(1);

/// A path that nothing else uses.
fn alone(min_rtt: Duration) -> Way {
    Way { min_rtt, shared: false }
}

#[test]
fn the_agent_never_spends_what_it_was_not_given() {
    let mut window = SendWindow::new(MIN_DATA_COST);
    assert_eq!(window.sendable(), MIN_DATA_COST as usize);
    window.spend(1);
    assert_eq!(window.sendable(), 0, "one byte costs as much as {MIN_DATA_COST}");
    window.grant(MIN_DATA_COST - 1).unwrap();
    assert_eq!(window.sendable(), 0);
    window.grant(1_000_000).unwrap();
    assert_eq!(window.sendable(), FULL_DATA_LEN);
    assert_eq!(window.grant(u32::MAX), Err(CreditOverflow));
}

#[test]
fn one_byte_too_many_is_seen() {
    let mut window = ReceiveWindow::open(&budgets(u64::MAX, u64::MAX), start_of_time()).unwrap();
    for _ in 0..INITIAL_WINDOW as usize / MAX_DATA_LEN {
        window.receive(MAX_DATA_LEN).unwrap();
    }
    assert_eq!(window.receive(1), Err(CreditExceeded));
}

#[test]
fn credit_returns_in_halves_of_the_window() {
    let now = start_of_time();
    let mut window = ReceiveWindow::open(&budgets(u64::MAX, u64::MAX), now).unwrap();
    for _ in 0..INITIAL_WINDOW as usize / MAX_DATA_LEN {
        window.receive(MAX_DATA_LEN).unwrap();
    }
    let later = now + Duration::from_secs(1);
    assert_eq!(window.consume(INITIAL_WINDOW / 2 - 1, later, alone(MS)), None);
    assert_eq!(window.consume(1, later, alone(MS)), Some(INITIAL_WINDOW / 2));
}

fn use_up(window: &mut ReceiveWindow, now: Instant, way: Way) {
    let mut queued = 0;
    while window.is_open() {
        let len = MAX_DATA_LEN.min(window.outstanding() as usize);
        window.receive(len).unwrap();
        queued += cost(len);
    }
    window.consume(queued, now, way);
}

#[test]
fn a_window_doubles_while_it_is_what_limits_a_fast_stream() {
    let mut now = start_of_time();
    let mut window = ReceiveWindow::open(&budgets(u64::MAX, u64::MAX), now).unwrap();
    for expected in [512, 1024, 2048, 4096, 8192, 8192].map(|kib| kib * 1024) {
        now += 149 * MS;
        use_up(&mut window, now, alone(50 * MS));
        assert_eq!(window.window(), expected);
    }
}

#[test]
fn a_window_doubles_for_a_consumer_who_takes_every_frame_at_once() {
    let mut now = start_of_time();
    let mut queue = std::collections::VecDeque::new();
    let mut window = ReceiveWindow::open(&budgets(u64::MAX, u64::MAX), now).unwrap();
    let mut credit = INITIAL_WINDOW as usize;
    // Credit is in flight for one round trip, and the link itself is fast.
    for _ in 0..40 {
        now += 10 * MS;
        while queue.front().is_some_and(|(at, _)| *at <= now) {
            credit += queue.pop_front().map_or(0, |(_, bytes)| bytes as usize);
        }
        while credit >= MAX_DATA_LEN {
            credit -= MAX_DATA_LEN;
            window.receive(MAX_DATA_LEN).unwrap();
            let returned = window.consume(cost(MAX_DATA_LEN), now, alone(50 * MS));
            queue.extend(returned.map(|bytes| (now + 50 * MS, bytes)));
        }
    }
    assert_eq!(window.window(), MAX_WINDOW);
}

#[test]
fn a_large_window_is_kept_back_while_others_ask_on_a_short_way() {
    let mut now = start_of_time();
    let mut window = ReceiveWindow::open(&budgets(u64::MAX, u64::MAX), now).unwrap();
    let shared = |microseconds| Way { min_rtt: Duration::from_micros(microseconds), shared: true };
    for (way, expected) in [
        (alone(50 * MS), 512 * 1024),
        (alone(50 * MS), 1024 * 1024),
        (shared(100), 256 * 1024),
        (shared(100), 256 * 1024),
        (shared(1_024), 512 * 1024),
        (shared(50_000), 2048 * 1024),
        (shared(100), 256 * 1024),
        (alone(MS), 2048 * 1024),
    ] {
        now += MS;
        use_up(&mut window, now, way);
        assert_eq!(window.outstanding(), expected, "{way:?}");
    }
}

#[test]
fn bytes_that_waited_for_their_consumer_do_not_measure_the_link() {
    let now = start_of_time();
    let mut window = ReceiveWindow::open(&budgets(u64::MAX, u64::MAX), now).unwrap();
    use_up(&mut window, now + 10_000 * MS, alone(MS));
    for _ in 0..8 {
        window.receive(MAX_DATA_LEN).unwrap();
    }
    // The consumer comes back after ten seconds and takes everything at once.
    for _ in 0..8 {
        window.consume(cost(MAX_DATA_LEN), now + 20_000 * MS, alone(MS));
    }
    assert_eq!(window.window(), INITIAL_WINDOW);
}

#[test]
fn a_window_stays_while_the_consumer_is_slow_or_a_budget_is_spent() {
    let now = start_of_time();
    let mut slow = ReceiveWindow::open(&budgets(u64::MAX, u64::MAX), now).unwrap();
    use_up(&mut slow, now + 151 * MS, alone(50 * MS));
    assert_eq!(slow.window(), INITIAL_WINDOW);

    let tight = budgets(u64::MAX, u64::from(INITIAL_WINDOW));
    let mut poor = ReceiveWindow::open(&tight, now).unwrap();
    use_up(&mut poor, now, alone(50 * MS));
    assert_eq!(poor.window(), INITIAL_WINDOW);
    assert!(ReceiveWindow::open(&tight, now).is_none(), "the process has no second window");
    assert_eq!(tight.tunnel.used(), u64::from(INITIAL_WINDOW), "a refused window takes nothing");
    drop(poor);
    assert_eq!((tight.tunnel.used(), tight.process.used()), (0, 0));
}

#[test]
fn windows_that_have_grown_leave_room_for_those_that_are_yet_to_open() {
    let now = start_of_time();
    let budgets = budgets(TUNNEL_WINDOW_BUDGET, TUNNEL_WINDOW_BUDGET);
    let mut large: Vec<_> = (0..16).map(|_| ReceiveWindow::open(&budgets, now).unwrap()).collect();
    for window in &mut large {
        (0..6).for_each(|_| use_up(window, now, alone(50 * MS)));
    }
    assert!(large.iter().any(|window| window.window() == MAX_WINDOW));
    let more: Vec<_> = (large.len()..MAX_STREAMS).map(|_| ReceiveWindow::open(&budgets, now)).collect();
    assert!(more.iter().all(Option::is_some), "{} of {} used", budgets.tunnel.used(), TUNNEL_WINDOW_BUDGET);
}

proptest! {
        #[test]
        fn credit_window_and_budget_always_agree(steps in prop::collection::vec((1..MAX_DATA_LEN, 0..100u64, any::<bool>(), any::<bool>()), 1..400)) {
            let mut now = start_of_time();
            let budgets = budgets(u64::MAX, 3 * 1024 * 1024);
            let mut relay = ReceiveWindow::open(&budgets, now).unwrap();
            let mut agent = SendWindow::new(INITIAL_WINDOW);
            let mut buffered = Vec::new();
            for (len, wait, consume, shared) in steps {
                now += MS * u32::try_from(wait).unwrap() / 10;
                let len = len.min(agent.sendable());
                if len > 0 {
                    agent.spend(len);
                    prop_assert_eq!(relay.receive(len), Ok(()));
                    buffered.push(cost(len));
                }
                if consume
 && !buffered.is_empty()
 && let Some(credit) = relay.consume(buffered.remove(0), now, Way { min_rtt: 20 * MS / 100, shared })
{
 agent.grant(credit).unwrap();
}
                let sum = relay.outstanding + relay.unreturned + buffered.iter().sum::<u32>();
                prop_assert_eq!(sum, relay.window);
                prop_assert_eq!(agent.available, relay.outstanding);
                prop_assert!(agent.sendable() > 0 || !buffered.is_empty(), "an emptied stream is never stuck");
                prop_assert_eq!(budgets.process.used(), u64::from(relay.window));
            }
        }
    }

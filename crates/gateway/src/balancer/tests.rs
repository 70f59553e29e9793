use proptest::prelude::*;

use super::*;

fn target(host: &str, weight: u32) -> BalancedTarget {
    BalancedTarget { host: host.into(), port: 80, weight }
}

fn balancer(algorithm: Algorithm, targets: &[BalancedTarget]) -> Balancer {
    Balancer::new(
        "u",
        None,
        BalancerSettings { algorithm, ..BalancerSettings::default() },
        targets.to_vec(),
        None,
    )
}

const ALGORITHMS: [Algorithm; 4] =
    [Algorithm::RoundRobin, Algorithm::ConsistentHashing, Algorithm::LeastConnections, Algorithm::Latency];

#[test]
fn turns_follow_the_weights() {
    let balancer = balancer(Algorithm::RoundRobin, &[target("a", 100), target("b", 300), target("c", 0)]);
    for _ in 0..3 {
        let mut counts = [0; 3];
        (0..4).for_each(|_| counts[balancer.pick(&[], None).unwrap()] += 1);
        assert_eq!(counts, [1, 3, 0]);
    }
}

#[test]
fn very_uneven_weights_leave_nobody_out() {
    let balancer =
        balancer(Algorithm::RoundRobin, &[target("a", 1), target("b", 65_535), target("c", 65_534)]);
    let mut counts = [0_i32; 3];
    (0..balancer.wheel.len()).for_each(|_| counts[balancer.pick(&[], None).unwrap()] += 1);
    assert!(
        balancer.wheel.len() <= 10_001 && counts[0] == 1 && counts[1].abs_diff(counts[2]) <= 1,
        "{counts:?}"
    );
}

#[test]
fn what_was_tried_or_is_unhealthy_is_avoided() {
    for algorithm in ALGORITHMS {
        let balancer = balancer(algorithm, &[target("a", 1), target("b", 1), target("c", 1), target("d", 0)]);
        assert!(balancer.set_healthy(2, false) && !balancer.set_healthy(9, false));
        for _ in 0..20 {
            assert_eq!(balancer.pick(&[1], Some(b"x")), Some(0), "{algorithm:?}");
            assert!(matches!(balancer.pick(&[], Some(b"x")), Some(0 | 1)), "{algorithm:?}");
            // All were tried: better one again than none.
            assert!(matches!(balancer.pick(&[0, 1, 2], Some(b"x")), Some(0 | 1)), "{algorithm:?}");
        }
        balancer.set_healthy(0, false);
        balancer.set_healthy(1, false);
        assert_eq!(balancer.pick(&[], Some(b"x")), None, "{algorithm:?}");
        balancer.set_healthy(2, true);
        assert_eq!(balancer.pick(&[], Some(b"x")), Some(2), "{algorithm:?}");
        assert_eq!(self::balancer(algorithm, &[target("a", 0)]).pick(&[], None), None);
        assert_eq!(self::balancer(algorithm, &[]).pick(&[], None), None);
    }
}

#[test]
fn the_idlest_target_is_chosen_by_weight() {
    let balancer = balancer(Algorithm::LeastConnections, &[target("a", 100), target("b", 200)]);
    let mut leases = Vec::new();
    let mut counts = [0; 2];
    for _ in 0..30 {
        let chosen = balancer.pick(&[], None).unwrap();
        counts[chosen] += 1;
        leases.extend(balancer.lease(chosen));
    }
    assert_eq!(counts, [10, 20]);
    leases.clear();
    let lease = balancer.lease(1);
    assert!(lease.is_some() && (balancer.load(0), balancer.load(1)) == (0.01, 0.01));
    drop(lease);
    assert_eq!(balancer.pick(&[], None), Some(1));
}

#[test]
fn the_faster_target_is_chosen() {
    let balancer = balancer(Algorithm::Latency, &[target("a", 1), target("b", 1)]);
    let report = |target, milliseconds| {
        balancer.report(target, Outcome::Status(200), Duration::from_millis(milliseconds))
    };
    report(0, 50);
    report(1, 10);
    assert!((0..10).filter(|_| balancer.pick(&[], None) == Some(1)).count() >= 5);
    (0..50).for_each(|_| report(0, 1));
    assert!(balancer.delay(0) < balancer.delay(1));
}

#[test]
fn the_same_value_goes_to_the_same_target() {
    let all: Vec<_> = (0..5).map(|at| target(&format!("10.0.0.{at}"), 100)).collect();
    let before = balancer(Algorithm::ConsistentHashing, &all);
    let reordered = balancer(Algorithm::ConsistentHashing, &all.iter().rev().cloned().collect::<Vec<_>>());
    let after = balancer(Algorithm::ConsistentHashing, &all[..4]);
    let (mut moved, mut counts) = (0, [0; 5]);
    for value in 0..1000 {
        let value = format!("client {value}");
        let chosen = before.pick(&[], Some(value.as_bytes())).unwrap();
        counts[chosen] += 1;
        assert_eq!(before.pick(&[], Some(value.as_bytes())), Some(chosen));
        assert_eq!(reordered.pick(&[], Some(value.as_bytes())), Some(4 - chosen));
        moved += usize::from(chosen != 4 && after.pick(&[], Some(value.as_bytes())) != Some(chosen));
    }
    assert!(counts.iter().all(|count| (100..350).contains(count)), "{counts:?}");
    assert!(moved < 150, "{moved} values changed between targets that stayed");
}

#[test]
fn rows_of_failures_make_a_target_unhealthy() {
    let (bad, good, other) = (Outcome::Status(503), Outcome::Status(200), Outcome::Status(404));
    let (broken, slow) = (Outcome::Failed, Outcome::TimedOut);
    let (well, sick) = (Health::Healthy, Health::Unhealthy);
    // `successes` of the thresholds, what happened, and what the target is taken for.
    for (successes, outcomes, expected) in [
        (0, &[bad, bad][..], well),
        (0, &[bad, bad, bad], sick),
        (0, &[bad, bad, other, bad], sick),
        (0, &[bad, broken, bad], well),
        (0, &[broken, broken], sick),
        (0, &[slow; 9], well),
        (0, &[Outcome::Status(504); 9], well),
        // Successes that are not counted end no row.
        (0, &[bad, bad, good, bad], sick),
        (0, &[broken, broken, good, good], sick),
        (2, &[bad, bad, good, bad, bad], well),
        (2, &[bad, bad, bad, good], sick),
        (2, &[bad, bad, bad, good, good], well),
        (2, &[bad, bad, bad, good, broken, good], sick),
        (2, &[bad, bad, bad, good, slow, good], well),
    ] {
        let passive = Thresholds {
            healthy_statuses: vec![200],
            successes,
            unhealthy_statuses: vec![500, 503],
            http_failures: 3,
            tcp_failures: 2,
            timeouts: 0,
        };
        let settings = BalancerSettings { passive, ..BalancerSettings::default() };
        let balancer = Balancer::new("u", None, settings, vec![target("a", 1)], None);
        outcomes.iter().for_each(|outcome| balancer.report(0, *outcome, Duration::ZERO));
        assert_eq!(balancer.health(0), Some(expected), "{outcomes:?}");
        assert_eq!(balancer.pick(&[], None).is_some(), expected == well);
        balancer.set_healthy(0, true);
        balancer.report(0, broken, Duration::ZERO);
        assert_eq!(balancer.health(0), Some(well), "counts begin anew");
    }
    assert_eq!(balancer(Algorithm::RoundRobin, &[target("a", 1)]).health(0), Some(Health::Off));
}

#[test]
fn below_the_threshold_nobody_is_chosen() {
    let settings = BalancerSettings { threshold: 50.0, ..BalancerSettings::default() };
    let balancer =
        Balancer::new("u", None, settings, vec![target("a", 50), target("b", 30), target("c", 20)], None);
    balancer.set_healthy(2, false);
    assert!(balancer.pick(&[], None).is_some());
    balancer.set_healthy(2, true);
    balancer.set_healthy(0, false);
    assert_eq!(balancer.pick(&[], None), None, "half is not above half");
}

#[test]
fn what_is_known_of_a_target_outlives_a_change() {
    let first = balancer(Algorithm::LeastConnections, &[target("a", 1), target("b", 1)]);
    first.set_healthy(1, false);
    let lease = first.lease(0);
    let settings = first.settings().clone();
    let second = Balancer::new(
        "u",
        None,
        settings,
        vec![target("b", 5), target("c", 1), target("a", 2)],
        Some(&first),
    );
    assert_eq!((0..3).map(|index| second.is_available(index)).collect::<Vec<_>>(), [false, true, true]);
    assert_eq!(second.load(2), 1.0);
    drop(lease);
    assert_eq!(second.load(2), 0.5);
}

#[test]
fn what_checks_have_found_ends_with_them() {
    let checked = BalancerSettings {
        passive: Thresholds { tcp_failures: 1, ..Thresholds::default() },
        ..BalancerSettings::default()
    };
    let new = |settings: &BalancerSettings, previous| {
        Balancer::new("u", None, settings.clone(), vec![target("a", 1)], previous)
    };
    let first = new(&checked, None);
    first.report(0, Outcome::Failed, Duration::ZERO);
    let still = new(&BalancerSettings { threshold: 1.0, ..checked.clone() }, Some(&first));
    assert_eq!(still.health(0), Some(Health::Unhealthy));
    let unchecked = new(&BalancerSettings::default(), Some(&still));
    assert_eq!((unchecked.health(0), unchecked.pick(&[], None)), (Some(Health::Off), Some(0)));
}

proptest! {
    #[test]
    fn only_what_is_available_is_chosen(
        weights in proptest::collection::vec(0..4_u32, 0..6),
        sick in proptest::collection::vec(0..6_usize, 0..6),
        tried in proptest::collection::vec(0..6_usize, 0..6),
        value: Vec<u8>,
        slots in 10..3000_usize,
    ) {
        let targets: Vec<_> = weights.iter().enumerate().map(|(at, weight)| target(&format!("h{at}"), *weight)).collect();
        for algorithm in ALGORITHMS {
            let settings = BalancerSettings { algorithm, slots, ..BalancerSettings::default() };
            let balancer = Balancer::new("u", None, settings, targets.clone(), None);
            sick.iter().for_each(|target| { balancer.set_healthy(*target, false); });
            let may: Vec<usize> = (0..targets.len()).filter(|at| weights[*at] > 0 && !sick.contains(at)).collect();
            let fresh: Vec<usize> = may.iter().copied().filter(|at| !tried.contains(at)).collect();
            let chosen = balancer.pick(&tried, Some(&value));
            prop_assert_eq!(chosen.is_some(), !may.is_empty(), "{:?}", algorithm);
            let best = if fresh.is_empty() { &may } else { &fresh };
            prop_assert!(chosen.is_none_or(|at| best.contains(&at)), "{:?}", algorithm);
        }
    }
}

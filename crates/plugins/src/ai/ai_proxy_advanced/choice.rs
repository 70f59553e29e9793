//! Choosing among targets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tollgate_gateway::balancer::Ring;

use super::config::Algorithm;
use super::state::TargetState;
use super::wheel::Wheel;

/// One request of so many goes where it would not go, so that it is known whether slow targets are slow still.
const ONE_OF: u32 = 100;

/// Targets that are candidates for the same requests, and how one of them is chosen.
pub(super) struct Choice {
    members: Vec<usize>,
    way: Way,
}

enum Way {
    Turns(Wheel),
    Hash(Ring, Wheel),
    Connections(Wheel),
    Latency(Wheel),
    Usage(Wheel),
    /// Groups, in the order in which they are tried.
    Groups(Vec<Wheel>),
    /// Groups by their numbers, of which each request has its own order.
    Ranked(BTreeMap<usize, Wheel>),
}

/// A target as a candidate: its index, its weight, a name that is the same on every node, and the group of those with
/// its description.
pub(super) struct Candidate {
    pub(super) index: usize,
    pub(super) weight: u32,
    pub(super) name: String,
    pub(super) group: usize,
}

/// What of a request a choice goes by.
#[derive(Clone, Copy, Default)]
pub(super) struct Asked<'a> {
    /// The value that consistent hashing goes by; without it targets take turns.
    pub(super) hash: Option<&'a [u8]>,
    /// Numbers of groups, the best one first, for the algorithm `semantic`.
    pub(super) ranking: &'a [usize],
}

impl Choice {
    pub(super) fn new(algorithm: Algorithm, candidates: &[Candidate], slots: u32) -> Self {
        let weighted = || candidates.iter().map(|candidate| (candidate.index, candidate.weight)).collect();
        let wheel = || Wheel::new(weighted(), slots);
        let way = match algorithm {
            Algorithm::RoundRobin => Way::Turns(wheel()),
            Algorithm::Semantic => {
                let mut groups = BTreeMap::<usize, Vec<(usize, u32)>>::new();
                for one in candidates {
                    groups.entry(one.group).or_default().push((one.index, one.weight));
                }
                let wheel = |(group, members)| (group, Wheel::new(members, slots));
                Way::Ranked(groups.into_iter().map(wheel).collect())
            }
            Algorithm::LeastConnections => Way::Connections(wheel()),
            Algorithm::LowestLatency => Way::Latency(wheel()),
            Algorithm::LowestUsage => Way::Usage(wheel()),
            Algorithm::ConsistentHashing => {
                let members: Vec<(u16, String, u32)> =
                    candidates.iter().map(|one| (one.index as u16, one.name.clone(), one.weight)).collect();
                Way::Hash(Ring::new(&members, slots as usize), wheel())
            }
            Algorithm::Priority => {
                let mut sorted: Vec<(usize, u32)> = weighted();
                sorted.sort_by_key(|(_, weight)| std::cmp::Reverse(*weight));
                let groups = sorted.chunk_by(|(_, one), (_, other)| one == other);
                Way::Groups(groups.map(|group| Wheel::new(group.to_vec(), slots)).collect())
            }
        };
        Self { members: candidates.iter().map(|candidate| candidate.index).collect(), way }
    }

    /// The targets there are to choose from.
    pub(super) fn members(&self) -> &[usize] {
        &self.members
    }

    /// Groups of the targets, with the algorithm `semantic`.
    pub(super) fn groups(&self) -> Vec<usize> {
        match &self.way {
            Way::Ranked(groups) => groups.keys().copied().collect(),
            _ => Vec::new(),
        }
    }

    /// A target that `may` be chosen; `None` where there is none.
    pub(super) fn choose(
        &self,
        states: &[Arc<TargetState>],
        asked: Asked<'_>,
        now: u64,
        may: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let of = |target: usize, read: &dyn Fn(&TargetState) -> f64| {
            states.get(target).map_or(0.0, |state| read(state))
        };
        let under_way = |state: &TargetState| f64::from(state.under_way.load(Ordering::Relaxed));
        match &self.way {
            Way::Turns(wheel) => wheel.turn(may),
            Way::Hash(ring, wheel) => match asked.hash {
                Some(hash) => ring.find(hash, may),
                None => wheel.turn(may),
            },
            Way::Connections(wheel) => wheel.lowest(may, |target, weight| {
                of(target, &|state| (under_way(state) + 1.0) / f64::from(weight))
            }),
            Way::Latency(wheel) if fastrand::u32(..ONE_OF) == 0 => wheel.turn(may),
            Way::Latency(wheel) => wheel.lowest(may, |target, _| of(target, &|state| state.latency.get(now))),
            // What is under way is taken for what is usual, or it would all go to one target.
            Way::Usage(wheel) => wheel.lowest(may, |target, _| {
                of(target, &|state| {
                    let (usage, calls) = (state.usage.get(now), state.calls.get(now));
                    usage + under_way(state) * if calls > 0.0 { usage / calls } else { 1.0 }
                })
            }),
            Way::Groups(groups) => groups.iter().find_map(|wheel| wheel.turn(&may)),
            Way::Ranked(groups) => asked.ranking.iter().find_map(|group| groups.get(group)?.turn(&may)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(algorithm: Algorithm, weights: &[u32]) -> (Choice, Vec<Arc<TargetState>>) {
        let candidate = |(index, weight): (usize, &u32)| Candidate {
            index,
            weight: *weight,
            name: format!("t{index}"),
            group: index / 2,
        };
        let candidates: Vec<Candidate> = weights.iter().enumerate().map(candidate).collect();
        (Choice::new(algorithm, &candidates, 1000), weights.iter().map(|_| Arc::default()).collect())
    }

    /// How often each of `count` targets is chosen in 1000 requests.
    fn chosen(choice: &Choice, states: &[Arc<TargetState>], may: impl Fn(usize) -> bool) -> Vec<usize> {
        let mut times = vec![0; states.len()];
        for number in 0..1000 {
            let hash = format!("request {number}");
            let asked = Asked { hash: Some(hash.as_bytes()), ranking: &[1, 0] };
            if let Some(target) = choice.choose(states, asked, 1, &may) {
                times[target] += 1;
            }
        }
        times
    }

    #[test]
    fn groups_are_tried_in_the_order_of_their_weights() {
        let (choice, states) = choice(Algorithm::Priority, &[25, 70, 70]);
        assert_eq!(chosen(&choice, &states, |_| true), [0, 500, 500]);
        assert_eq!(chosen(&choice, &states, |target| target != 1), [0, 0, 1000]);
        assert_eq!(chosen(&choice, &states, |target| target == 0), [1000, 0, 0]);
        assert_eq!(chosen(&choice, &states, |_| false), [0, 0, 0]);
    }

    #[test]
    fn groups_are_tried_in_the_order_that_the_request_has() {
        // Two of one description, two of another, and one that nothing of the request is near to.
        let (choice, states) = choice(Algorithm::Semantic, &[50, 50, 75, 25, 100]);
        assert_eq!(chosen(&choice, &states, |_| true), [0, 0, 750, 250, 0]);
        assert_eq!(chosen(&choice, &states, |target| target != 2), [0, 0, 0, 1000, 0]);
        assert_eq!(chosen(&choice, &states, |target| target < 2), [500, 500, 0, 0, 0]);
        assert_eq!(chosen(&choice, &states, |target| target == 4), [0, 0, 0, 0, 0]);
    }

    #[test]
    fn the_fastest_is_chosen_and_the_others_are_looked_at_now_and_then() {
        let (choice, states) = choice(Algorithm::LowestLatency, &[100, 100, 100]);
        states[0].latency.measure(1, 50.0);
        states[1].latency.measure(1, 5.0);
        // Who has not been measured yet is tried at once.
        assert!(chosen(&choice, &states, |_| true)[2] > 950);
        states[2].latency.measure(1, 60.0);
        let times = chosen(&choice, &states, |_| true);
        assert!(times[1] > 950 && times[0] + times[2] > 0, "{times:?}");
    }

    #[test]
    fn the_least_used_is_chosen_counting_what_is_under_way() {
        let (choice, states) = choice(Algorithm::LowestUsage, &[100, 100]);
        for (state, usage) in states.iter().zip([1000.0, 500.0]) {
            state.usage.add(1, usage);
            state.calls.add(1, 5.0);
        }
        assert_eq!(chosen(&choice, &states, |_| true), [0, 1000]);
        // Six more of 100 each.
        states[1].under_way.store(6, Ordering::Relaxed);
        assert_eq!(chosen(&choice, &states, |_| true), [1000, 0]);
    }

    #[test]
    fn the_one_with_the_most_room_is_chosen() {
        let (choice, states) = choice(Algorithm::LeastConnections, &[100, 200]);
        states[0].under_way.store(2, Ordering::Relaxed);
        states[1].under_way.store(4, Ordering::Relaxed);
        assert_eq!(chosen(&choice, &states, |_| true), [0, 1000]);
        states[1].under_way.store(6, Ordering::Relaxed);
        assert_eq!(chosen(&choice, &states, |_| true), [1000, 0]);
    }

    #[test]
    fn a_value_stays_with_its_target() {
        let (choice, states) = choice(Algorithm::ConsistentHashing, &[100, 100, 200]);
        let first = |may: &dyn Fn(usize) -> bool| -> Vec<Option<usize>> {
            let asked = |number: u32| {
                choice.choose(&states, Asked { hash: Some(&number.to_be_bytes()), ranking: &[] }, 1, may)
            };
            (0..1000).map(asked).collect()
        };
        let all = first(&|_| true);
        assert_eq!(all, first(&|_| true));
        let without = first(&|target| target != 0);
        let moved = |(before, after): (&Option<usize>, &Option<usize>)| before != after;
        // Only what was with the one that is gone goes elsewhere.
        assert!(all.iter().zip(&without).filter(|pair| moved(*pair)).all(|(before, _)| *before == Some(0)));
        let share = all.iter().filter(|target| **target == Some(2)).count();
        assert!((350..650).contains(&share), "{share}");
        let turns: Vec<_> = (0..4).map(|_| choice.choose(&states, Asked::default(), 1, |_| true)).collect();
        assert_eq!(turns.iter().filter(|target| **target == Some(2)).count(), 2, "{turns:?}");
    }
}

//! Which configured plugin runs for a request, and in which order.
//!
//! Exactly one instance of a plugin runs: the most specific one for the route, the service and the consumer
//! known so far (Kong 3.11). Everything but the consumer is known when the configuration is compiled.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::plugin::{Phases, Plugin, Scope};

/// A plugin entity, compiled.
pub struct Configured {
    /// The plugin's name.
    pub name: &'static str,
    /// Higher runs earlier.
    pub priority: i32,
    /// What it is bound to.
    pub scope: Scope,
    /// Its phases.
    pub phases: Phases,
    /// The plugin.
    pub plugin: Arc<dyn Plugin>,
}

/// What runs for one consumer or another.
type ByConsumer = HashMap<Uuid, Arc<Configured>>;

/// The plugins of one route.
#[derive(Default)]
pub struct Chain {
    /// One per plugin name, in running order.
    slots: Vec<Slot>,
    /// What runs where no consumer has configuration of its own: the shortest path.
    pub(crate) fixed: Option<Vec<Arc<Configured>>>,
    /// Phases that any of the plugins has.
    phases: Phases,
}

struct Slot {
    /// Bound to a consumer and to this route or service.
    with_consumer: ByConsumer,
    /// Bound to this route and service.
    route_and_service: Option<Arc<Configured>>,
    /// Bound to a consumer alone; shared by all routes of the workspace.
    consumer: Arc<ByConsumer>,
    /// Bound to this route, else to this service, else to nothing.
    fallback: Option<Arc<Configured>>,
}

impl Slot {
    /// Every instance that may run.
    fn all(&self) -> impl Iterator<Item = &Arc<Configured>> {
        let own = self.route_and_service.iter().chain(&self.fallback);
        own.chain(self.with_consumer.values()).chain(self.consumer.values())
    }

    fn resolve(&self, consumer: Option<Uuid>) -> Option<&Arc<Configured>> {
        let of_consumer = |map: &'_ ByConsumer| consumer.filter(|id| map.contains_key(id));
        if let Some(id) = of_consumer(&self.with_consumer) {
            return self.with_consumer.get(&id);
        }
        if self.route_and_service.is_some() {
            return self.route_and_service.as_ref();
        }
        if let Some(id) = of_consumer(&self.consumer) {
            return self.consumer.get(&id);
        }
        self.fallback.as_ref()
    }
}

impl Chain {
    /// Number of plugin names that may run.
    pub fn len(&self) -> usize {
        self.fixed.as_ref().map_or(self.slots.len(), Vec::len)
    }

    /// Whether any plugin has the phase.
    pub(crate) fn has(&self, phase: Phases) -> bool {
        self.phases.has(phase)
    }

    /// Whether no plugin can run.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The instance that runs at a place for a consumer.
    pub(crate) fn resolve(&self, place: usize, consumer: Option<Uuid>) -> Option<&Arc<Configured>> {
        match &self.fixed {
            Some(fixed) => fixed.get(place),
            None => self.slots.get(place).and_then(|slot| slot.resolve(consumer)),
        }
    }
}

/// The plugins of one workspace, ready to be made into chains.
pub struct Plugins {
    /// By name, in running order.
    by_name: Vec<(Vec<Arc<Configured>>, Arc<ByConsumer>)>,
}

impl Plugins {
    /// Sorts the enabled plugins of a workspace: higher priority first, equal ones by name, descending (Kong
    /// 3.11).
    pub fn new(configured: Vec<Arc<Configured>>) -> Self {
        let mut names: HashMap<&'static str, Vec<Arc<Configured>>> = HashMap::new();
        for plugin in configured {
            names.entry(plugin.name).or_default().push(plugin);
        }
        let mut by_name: Vec<_> = names.into_values().collect();
        by_name.sort_by(|a, b| {
            let key = |list: &Vec<Arc<Configured>>| list.first().map(|plugin| (plugin.priority, plugin.name));
            key(b).cmp(&key(a))
        });
        let by_name = by_name
            .into_iter()
            .map(|list| {
                let of_consumer = list
                    .iter()
                    .filter(|plugin| plugin.scope.route.is_none() && plugin.scope.service.is_none())
                    .filter_map(|plugin| plugin.scope.consumer.map(|consumer| (consumer, Arc::clone(plugin))))
                    .collect();
                (list, Arc::new(of_consumer))
            })
            .collect();
        Self { by_name }
    }

    /// The chain of a route; without one, that of requests which matched none.
    pub fn chain(&self, route: Option<Uuid>, service: Option<Uuid>) -> Chain {
        let mut slots = Vec::new();
        for (list, of_consumer) in &self.by_name {
            let mut slot = Slot {
                with_consumer: HashMap::new(),
                route_and_service: None,
                consumer: Arc::clone(of_consumer),
                fallback: None,
            };
            let mut ranks: HashMap<Uuid, u8> = HashMap::new();
            let mut fallback_rank = 0;
            for plugin in list {
                let scope = &plugin.scope;
                let fits = scope.route.is_none_or(|id| Some(id) == route)
                    && scope.service.is_none_or(|id| Some(id) == service);
                if !fits {
                    continue;
                }
                let rank = u8::from(scope.route.is_some()) * 2 + u8::from(scope.service.is_some());
                match scope.consumer {
                    Some(consumer) if rank > 0 => {
                        let best = ranks.entry(consumer).or_default();
                        if rank > *best {
                            *best = rank;
                            slot.with_consumer.insert(consumer, Arc::clone(plugin));
                        }
                    }
                    Some(_) => {}
                    None if rank == 3 => slot.route_and_service = Some(Arc::clone(plugin)),
                    None if slot.fallback.is_none() || rank > fallback_rank => {
                        fallback_rank = rank;
                        slot.fallback = Some(Arc::clone(plugin));
                    }
                    None => {}
                }
            }
            let can_run = slot.fallback.is_some()
                || slot.route_and_service.is_some()
                || !slot.with_consumer.is_empty()
                || !slot.consumer.is_empty();
            if can_run {
                slots.push(slot);
            }
        }
        let by_consumer =
            slots.iter().any(|slot| !slot.with_consumer.is_empty() || !slot.consumer.is_empty());
        let fixed =
            (!by_consumer).then(|| slots.iter().filter_map(|slot| slot.resolve(None).cloned()).collect());
        let phases =
            slots.iter().flat_map(Slot::all).fold(Phases::default(), |all, plugin| all.and(plugin.phases));
        Chain { slots, fixed, phases }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;
    impl Plugin for Nothing {
        fn phases(&self) -> Phases {
            Phases::ACCESS
        }
    }

    fn plugin(name: &'static str, priority: i32, scope: [u128; 3]) -> Arc<Configured> {
        let id = |number: u128| (number > 0).then(|| Uuid::from_u128(number));
        Arc::new(Configured {
            name,
            priority,
            scope: Scope {
                id: Uuid::from_u128(scope[0] * 100 + scope[1] * 10 + scope[2]),
                instance_name: None,
                workspace: Uuid::nil(),
                route: id(scope[0]),
                service: id(scope[1]),
                consumer: id(scope[2]),
            },
            phases: Phases::ACCESS,
            plugin: Arc::new(Nothing),
        })
    }

    /// Kong 3.11's order of precedence: each scope wins over all that stand behind it.
    #[test]
    fn the_most_specific_instance_runs() {
        let order = [[1, 2, 3], [1, 0, 3], [0, 2, 3], [1, 2, 0], [0, 0, 3], [1, 0, 0], [0, 2, 0], [0, 0, 0]];
        for from in 0..order.len() {
            let mut present: Vec<_> = order[from..].iter().map(|scope| plugin("a", 1, *scope)).collect();
            present.extend([plugin("a", 1, [9, 0, 3]), plugin("a", 1, [0, 9, 0]), plugin("a", 1, [0, 0, 9])]);
            let chain = Plugins::new(present).chain(Some(Uuid::from_u128(1)), Some(Uuid::from_u128(2)));
            let winner = chain.resolve(0, Some(Uuid::from_u128(3))).unwrap();
            let [route, service, consumer] = order[from];
            assert_eq!(
                winner.scope.id,
                Uuid::from_u128(route * 100 + service * 10 + consumer),
                "from {from}"
            );
        }
    }

    #[test]
    fn higher_priority_first_then_names_descending() {
        let plugins = vec![
            plugin("a", 5, [0; 3]),
            plugin("z", 5, [0; 3]),
            plugin("m", 9, [0; 3]),
            plugin("y", -1, [0; 3]),
        ];
        let chain = Plugins::new(plugins).chain(None, None);
        let names: Vec<_> = (0..chain.len()).map(|place| chain.resolve(place, None).unwrap().name).collect();
        assert_eq!(names, ["m", "z", "a", "y"]);
    }
}

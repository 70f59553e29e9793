//! Which configured plugin runs for a request, and in which order.
//!
//! Exactly one instance of a plugin runs: the most specific one for the route, the service and the consumer
//! known so far (Kong 3.11). Everything but the consumer is known when the configuration is compiled.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use imbl::OrdMap;
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

impl Default for Chain {
    /// No plugins.
    fn default() -> Self {
        Self { slots: Vec::new(), fixed: Some(Vec::new()), phases: Phases::default() }
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

/// The plugins of one workspace, ready to be made into chains. Cloning shares them.
#[derive(Clone, Default)]
pub struct Plugins {
    /// In running order: higher priority first, equal ones by name, descending (Kong 3.11).
    by_name: OrdMap<Reverse<(i32, &'static str)>, Instances>,
}

/// The instances of one plugin.
#[derive(Clone, Default)]
struct Instances {
    /// By route and service, then id.
    by_scope: OrdMap<(Option<Uuid>, Option<Uuid>, Uuid), Arc<Configured>>,
    /// Bound to a consumer alone.
    of_consumer: Arc<ByConsumer>,
}

/// Up to this number of instances all are looked at; of more, those of the scopes that fit.
const FEW: usize = 8;

impl Instances {
    fn count_consumer(&mut self, plugin: &Arc<Configured>, is_there: bool) {
        if let (None, None, Some(consumer)) =
            (plugin.scope.route, plugin.scope.service, plugin.scope.consumer)
        {
            let of_consumer = Arc::make_mut(&mut self.of_consumer);
            if is_there {
                of_consumer.insert(consumer, Arc::clone(plugin));
            } else if of_consumer.get(&consumer).is_some_and(|there| Arc::ptr_eq(there, plugin)) {
                of_consumer.remove(&consumer);
            }
        }
    }

    /// Those that may run for a route of a service.
    fn fitting(&self, route: Option<Uuid>, service: Option<Uuid>) -> impl Iterator<Item = &Arc<Configured>> {
        let fits = move |scope: &Scope| {
            scope.route.is_none_or(|id| Some(id) == route)
                && scope.service.is_none_or(|id| Some(id) == service)
        };
        let few = self.by_scope.len() <= FEW;
        let all = few.then(|| self.by_scope.values()).into_iter().flatten();
        let mut scopes = vec![(None, None)];
        scopes.extend(service.map(|service| (None, Some(service))));
        if let Some(route) = route {
            scopes.push((Some(route), None));
            scopes.extend(service.map(|service| (Some(route), Some(service))));
        }
        let of_scopes = scopes.into_iter().filter(move |_| !few).flat_map(|(route, service)| {
            self.by_scope.range((route, service, Uuid::nil())..=(route, service, Uuid::max()))
        });
        all.chain(of_scopes.map(|(_, plugin)| plugin)).filter(move |plugin| fits(&plugin.scope))
    }
}

impl Plugins {
    /// Adds an enabled plugin.
    pub fn insert(&mut self, plugin: &Arc<Configured>) {
        let instances = self.by_name.entry(Reverse((plugin.priority, plugin.name))).or_default();
        let scope = &plugin.scope;
        instances.by_scope.insert((scope.route, scope.service, scope.id), Arc::clone(plugin));
        instances.count_consumer(plugin, true);
    }

    /// Removes a plugin that was added.
    pub fn remove(&mut self, plugin: &Arc<Configured>) {
        let name = Reverse((plugin.priority, plugin.name));
        let Some(instances) = self.by_name.get_mut(&name) else { return };
        let scope = &plugin.scope;
        instances.by_scope.remove(&(scope.route, scope.service, scope.id));
        instances.count_consumer(plugin, false);
        if instances.by_scope.is_empty() {
            self.by_name.remove(&name);
        }
    }

    /// The chain of a route; without one, that of requests which matched none.
    pub fn chain(&self, route: Option<Uuid>, service: Option<Uuid>) -> Chain {
        let mut slots = Vec::new();
        for instances in self.by_name.values() {
            let mut slot = Slot {
                with_consumer: HashMap::new(),
                route_and_service: None,
                consumer: Arc::clone(&instances.of_consumer),
                fallback: None,
            };
            let mut ranks: HashMap<Uuid, u8> = HashMap::new();
            let mut fallback_rank = 0;
            for plugin in instances.fitting(route, service) {
                let scope = &plugin.scope;
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
            let mut plugins = Plugins::default();
            present.iter().for_each(|plugin| plugins.insert(plugin));
            let chain = plugins.chain(Some(Uuid::from_u128(1)), Some(Uuid::from_u128(2)));
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
        let mut plugins = Plugins::default();
        for (name, priority) in [("a", 5), ("z", 5), ("m", 9), ("y", -1)] {
            plugins.insert(&plugin(name, priority, [0; 3]));
        }
        let chain = plugins.chain(None, None);
        let names: Vec<_> = (0..chain.len()).map(|place| chain.resolve(place, None).unwrap().name).collect();
        assert_eq!(names, ["m", "z", "a", "y"]);
    }
}

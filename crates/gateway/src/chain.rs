//! Which configured plugin runs for a request, and in which order.
//!
//! Exactly one instance of a plugin runs: the most specific one for the route, the service and the consumer
//! known so far with the groups it belongs to (Kong 3.11). Everything but the consumer is known when the
//! configuration is compiled.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use imbl::OrdMap;
use uuid::Uuid;

use crate::consumers::{Consumers, Groups};
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

/// What runs for one consumer or another, or for one group or another.
type ByOwner = HashMap<Uuid, Arc<Configured>>;

/// The same bound to a route or service too, with how specific it is.
type ByOwnerHere = HashMap<Uuid, (u8, Arc<Configured>)>;

/// How specific a scope is: the lowest number runs (Kong 3.11).
fn rank(scope: &Scope) -> u8 {
    let (route, service) = (scope.route.is_some(), scope.service.is_some());
    match (scope.consumer.is_some(), scope.consumer_group.is_some()) {
        (true, _) => match (route, service) {
            (true, true) => 1,
            (true, false) => 3,
            (false, true) => 4,
            (false, false) => 8,
        },
        (false, true) => match (route, service) {
            (true, true) => 2,
            (true, false) => 5,
            (false, true) => 6,
            (false, false) => 9,
        },
        (false, false) => match (route, service) {
            (true, true) => 7,
            (true, false) => 10,
            (false, true) => 11,
            (false, false) => 12,
        },
    }
}

/// The plugins of one route.
pub struct Chain {
    /// One per plugin name, in running order.
    slots: Vec<Slot>,
    /// What runs where no consumer or group has configuration of its own: the shortest path.
    pub(crate) fixed: Option<Vec<Arc<Configured>>>,
    /// Phases that any of the plugins has.
    phases: Phases,
}

struct Slot {
    /// Bound to a consumer and to this route or service.
    with_consumer: ByOwnerHere,
    /// Bound to a group and to this route or service.
    with_group: ByOwnerHere,
    /// Bound to this route and service.
    route_and_service: Option<Arc<Configured>>,
    /// Bound to a consumer alone; shared by all routes of the workspace.
    consumer: Arc<ByOwner>,
    /// Bound to a group alone; shared as well.
    group: Arc<ByOwner>,
    /// Bound to this route, else to this service, else to nothing.
    fallback: Option<Arc<Configured>>,
}

impl Slot {
    /// Every instance that may run.
    fn all(&self) -> impl Iterator<Item = &Arc<Configured>> {
        let own = self.route_and_service.iter().chain(&self.fallback);
        let here = self.with_consumer.values().chain(self.with_group.values()).map(|(_, plugin)| plugin);
        own.chain(here).chain(self.consumer.values()).chain(self.group.values())
    }

    fn of_groups(&self) -> bool {
        !self.with_group.is_empty() || !self.group.is_empty()
    }

    fn by_consumer(&self) -> bool {
        !self.with_consumer.is_empty() || !self.consumer.is_empty() || self.of_groups()
    }

    /// Of several groups that have the plugin in as specific a scope, the one whose name comes first wins (Kong 3.11).
    fn resolve(&self, consumer: Option<Uuid>, consumers: &Consumers) -> Option<&Arc<Configured>> {
        let Some(id) = consumer else { return self.route_and_service.as_ref().or(self.fallback.as_ref()) };
        let groups = if self.of_groups() { consumers.groups_of(id) } else { Groups::new() };
        let of_groups = groups.iter().filter_map(|group| self.with_group.get(&group.id));
        let here = self.with_consumer.get(&id).into_iter().chain(of_groups);
        // The first of those that are as specific.
        here.min_by_key(|(rank, _)| *rank)
            .map(|(_, plugin)| plugin)
            .or(self.route_and_service.as_ref())
            .or_else(|| self.consumer.get(&id))
            .or_else(|| groups.iter().find_map(|group| self.group.get(&group.id)))
            .or(self.fallback.as_ref())
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

    /// The instance that runs at a place for one of the consumers.
    pub(crate) fn resolve(
        &self,
        place: usize,
        consumer: Option<Uuid>,
        consumers: &Consumers,
    ) -> Option<&Arc<Configured>> {
        match &self.fixed {
            Some(fixed) => fixed.get(place),
            None => self.slots.get(place).and_then(|slot| slot.resolve(consumer, consumers)),
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
    of_consumer: Arc<ByOwner>,
    /// Bound to a group alone.
    of_group: Arc<ByOwner>,
}

/// Up to this number of instances all are looked at; of more, those of the scopes that fit.
const FEW: usize = 8;

impl Instances {
    fn count_owner(&mut self, plugin: &Arc<Configured>, is_there: bool) {
        let scope = &plugin.scope;
        let (map, owner) = match (scope.route, scope.service, scope.consumer, scope.consumer_group) {
            (None, None, Some(consumer), _) => (&mut self.of_consumer, consumer),
            (None, None, None, Some(group)) => (&mut self.of_group, group),
            _ => return,
        };
        let map = Arc::make_mut(map);
        if is_there {
            map.insert(owner, Arc::clone(plugin));
        } else if map.get(&owner).is_some_and(|there| Arc::ptr_eq(there, plugin)) {
            map.remove(&owner);
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
        instances.count_owner(plugin, true);
    }

    /// Removes a plugin that was added.
    pub fn remove(&mut self, plugin: &Arc<Configured>) {
        let name = Reverse((plugin.priority, plugin.name));
        let Some(instances) = self.by_name.get_mut(&name) else { return };
        let scope = &plugin.scope;
        instances.by_scope.remove(&(scope.route, scope.service, scope.id));
        instances.count_owner(plugin, false);
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
                with_group: HashMap::new(),
                route_and_service: None,
                consumer: Arc::clone(&instances.of_consumer),
                group: Arc::clone(&instances.of_group),
                fallback: None,
            };
            let mut fallback_rank = u8::MAX;
            for plugin in instances.fitting(route, service) {
                let (scope, rank) = (&plugin.scope, rank(&plugin.scope));
                let alone = scope.route.is_none() && scope.service.is_none();
                match (scope.consumer, scope.consumer_group) {
                    // In the maps that all routes share.
                    (Some(_), _) | (None, Some(_)) if alone => {}
                    (Some(consumer), _) => keep_best(&mut slot.with_consumer, consumer, rank, plugin),
                    (None, Some(group)) => keep_best(&mut slot.with_group, group, rank, plugin),
                    (None, None) if scope.route.is_some() && scope.service.is_some() => {
                        slot.route_and_service = Some(Arc::clone(plugin));
                    }
                    (None, None) if rank < fallback_rank => {
                        fallback_rank = rank;
                        slot.fallback = Some(Arc::clone(plugin));
                    }
                    (None, None) => {}
                }
            }
            if slot.all().next().is_some() {
                slots.push(slot);
            }
        }
        let fixed = (!slots.iter().any(Slot::by_consumer)).then(|| {
            let nobody = |slot: &Slot| slot.route_and_service.clone().or_else(|| slot.fallback.clone());
            slots.iter().filter_map(nobody).collect()
        });
        let phases =
            slots.iter().flat_map(Slot::all).fold(Phases::default(), |all, plugin| all.and(plugin.phases));
        Chain { slots, fixed, phases }
    }
}

fn keep_best(plugins: &mut ByOwnerHere, owner: Uuid, rank: u8, plugin: &Arc<Configured>) {
    if plugins.get(&owner).is_none_or(|(best, _)| rank < *best) {
        plugins.insert(owner, (rank, Arc::clone(plugin)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consumers::{ConsumerGroup, Membership};

    struct Nothing;
    impl Plugin for Nothing {
        fn phases(&self) -> Phases {
            Phases::ACCESS
        }
    }

    /// `scope`: a route, a service, a consumer and a group; 0 is none.
    fn plugin(name: &'static str, priority: i32, scope: [u128; 4]) -> Arc<Configured> {
        let id = |number: u128| (number > 0).then(|| Uuid::from_u128(number));
        Arc::new(Configured {
            name,
            priority,
            scope: Scope {
                id: plugin_id(scope),
                instance_name: None,
                workspace: Uuid::nil(),
                route: id(scope[0]),
                service: id(scope[1]),
                consumer: id(scope[2]),
                consumer_group: id(scope[3]),
            },
            phases: Phases::ACCESS,
            plugin: Arc::new(Nothing),
        })
    }

    fn plugin_id(scope: [u128; 4]) -> Uuid {
        Uuid::from_u128(scope.into_iter().fold(0, |id, part| id * 10 + part))
    }

    /// Consumer 3 belongs to the groups 4, "gold", and 5, "silver".
    fn consumers() -> Consumers {
        let mut consumers = Consumers::default();
        for (group, name) in [(5, "silver"), (4, "gold"), (6, "bronze")] {
            consumers.insert_group(ConsumerGroup { id: Uuid::from_u128(group), name: name.into() });
        }
        for (id, consumer, group) in [(1, 3, 5), (2, 3, 4), (3, 7, 6)] {
            let [id, consumer, group] = [id, consumer, group].map(Uuid::from_u128);
            consumers.insert_membership(Membership { id, consumer, group });
        }
        consumers
    }

    /// Kong 3.11's order of precedence: each scope wins over all that stand behind it.
    #[test]
    fn the_most_specific_instance_runs() {
        let order = [
            [1, 2, 3, 0],
            [1, 2, 0, 4],
            [1, 2, 0, 5],
            [1, 0, 3, 0],
            [0, 2, 3, 0],
            [1, 0, 0, 4],
            [1, 0, 0, 5],
            [0, 2, 0, 4],
            [0, 2, 0, 5],
            [1, 2, 0, 0],
            [0, 0, 3, 0],
            [0, 0, 0, 4],
            [0, 0, 0, 5],
            [1, 0, 0, 0],
            [0, 2, 0, 0],
            [0, 0, 0, 0],
        ];
        let (consumers, others) =
            (consumers(), [[9, 0, 3, 0], [0, 9, 0, 0], [0, 0, 9, 0], [0, 0, 0, 6], [1, 2, 0, 6]]);
        for from in 0..order.len() {
            let mut plugins = Plugins::default();
            for scope in order[from..].iter().chain(&others) {
                plugins.insert(&plugin("a", 1, *scope));
            }
            let chain = plugins.chain(Some(Uuid::from_u128(1)), Some(Uuid::from_u128(2)));
            let runs = |consumer: Option<u128>| {
                chain.resolve(0, consumer.map(Uuid::from_u128), &consumers).unwrap().scope.id
            };
            assert_eq!(runs(Some(3)), plugin_id(order[from]), "from {from}");
            let of_nobody = order[from..].iter().find(|scope| scope[2..] == [0, 0]).unwrap();
            assert_eq!(runs(None), plugin_id(*of_nobody), "from {from}");
            assert_eq!(runs(Some(8)), plugin_id(*of_nobody), "from {from}");
            assert_eq!(runs(Some(7)), plugin_id([1, 2, 0, 6]), "from {from}");
        }
    }

    #[test]
    fn what_nobody_has_of_his_own_is_fixed() {
        for (scope, fixed) in
            [([1, 0, 0, 0], true), ([0, 0, 0, 4], false), ([1, 0, 0, 4], false), ([9, 0, 0, 4], true)]
        {
            let mut plugins = Plugins::default();
            let one = plugin("a", 1, scope);
            plugins.insert(&one);
            assert_eq!(plugins.chain(Some(Uuid::from_u128(1)), None).fixed.is_some(), fixed, "{scope:?}");
            plugins.remove(&one);
            assert!(plugins.chain(Some(Uuid::from_u128(1)), None).is_empty(), "{scope:?}");
        }
    }

    #[test]
    fn higher_priority_first_then_names_descending() {
        let mut plugins = Plugins::default();
        for (name, priority) in [("a", 5), ("z", 5), ("m", 9), ("y", -1)] {
            plugins.insert(&plugin(name, priority, [0; 4]));
        }
        let (chain, nobody) = (plugins.chain(None, None), Consumers::default());
        let names: Vec<_> =
            (0..chain.len()).map(|place| chain.resolve(place, None, &nobody).unwrap().name).collect();
        assert_eq!(names, ["m", "z", "a", "y"]);
    }
}

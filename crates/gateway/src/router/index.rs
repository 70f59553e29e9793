//! Which groups can match a request, by its host and by how its path begins.
//!
//! A change copies the way to what it touches; the rest is shared with the index before it.

use std::sync::Arc;

use super::group::{Group, Order, Paths, Wildcard};
use crate::table::{Table, hash};

/// Groups by host, and under each host by path. A group stands under each of its hosts and paths.
#[derive(Clone, Default)]
pub(super) struct Index {
    any_host: PathTree,
    by_host: Table<Named>,
    /// By what hosts end with, dot first.
    by_end: Table<Named>,
    /// By what hosts start with, dot last.
    by_start: Table<Named>,
}

/// The groups of one host, or of one beginning or end of hosts.
struct Named {
    name: Box<str>,
    tree: PathTree,
}

impl Index {
    pub(super) fn add(&mut self, group: &Arc<Group>) {
        self.each_place(group, |tree, key| tree.add(key, group));
    }

    pub(super) fn remove(&mut self, group: &Arc<Group>) {
        self.each_place(group, |tree, key| tree.remove(key, &group.order));
    }

    fn each_place(&mut self, group: &Group, edit: impl Fn(&mut PathTree, &[u8])) {
        let edit = |tree: &mut PathTree| match &group.paths {
            Paths::Any => edit(tree, b""),
            Paths::Plain(prefixes) => prefixes.iter().for_each(|prefix| edit(tree, prefix)),
            Paths::Regex(regexes) => regexes.iter().for_each(|pattern| edit(tree, &pattern.literal)),
        };
        if group.hosts.is_empty() {
            edit(&mut self.any_host);
        }
        for host in &group.hosts {
            let (table, name) = match &host.name {
                name if !name.is_by_label() => {
                    edit(&mut self.any_host);
                    continue;
                }
                Wildcard::Exact(name) => (&mut self.by_host, name),
                Wildcard::Ends(end) => (&mut self.by_end, end),
                Wildcard::Starts(start) => (&mut self.by_start, start),
            };
            let had = table.remove(&**name, |entry| entry.name == *name);
            let mut tree = had.map(|had| had.tree.clone()).unwrap_or_default();
            edit(&mut tree);
            if !tree.root.is_empty() {
                let entry = Arc::new(Named { name: name.clone(), tree });
                table.insert(&**name, entry, |entry| hash(&*entry.name));
            }
        }
    }

    /// The first group in order that `accepts`, of those that stand under this host and path.
    pub(super) fn first(
        &self,
        host: &str,
        path: &[u8],
        accepts: impl Fn(&Group) -> bool,
    ) -> Option<&Arc<Group>> {
        let mut best = None;
        if self.by_host.len() > 0
            && let Some(named) = self.by_host.find(host, |entry| *entry.name == *host)
        {
            best = named.tree.first(path, best, &accepts);
        }
        if self.by_end.len() > 0 || self.by_start.len() > 0 {
            for dot in memchr::memchr_iter(b'.', host.as_bytes()) {
                let (end, start) = (&host[dot..], &host[..=dot]);
                let ends = self.by_end.find(end, |entry| *entry.name == *end);
                let starts = self.by_start.find(start, |entry| *entry.name == *start);
                for named in ends.into_iter().chain(starts) {
                    best = named.tree.first(path, best, &accepts);
                }
            }
        }
        self.any_host.first(path, best, &accepts)
    }
}

/// Groups by the beginning of the path: a radix tree.
#[derive(Clone, Default)]
struct PathTree {
    root: Arc<Node>,
}

#[derive(Clone)]
struct Node {
    /// Bytes between the parent and here; empty at the root alone.
    label: Box<[u8]>,
    /// Groups whose paths begin with all labels down to here, in order.
    groups: Vec<Arc<Group>>,
    /// The first here and below.
    first: Order,
    /// By the first byte of their labels, ascending.
    children: Vec<(u8, Arc<Node>)>,
}

impl Default for Node {
    fn default() -> Self {
        Self { label: Box::default(), groups: Vec::new(), first: Order::LAST, children: Vec::new() }
    }
}

impl Drop for Node {
    /// Without recursion: paths may be nested to any depth.
    fn drop(&mut self) {
        let mut below = std::mem::take(&mut self.children);
        while let Some((_, child)) = below.pop() {
            if let Some(mut child) = Arc::into_inner(child) {
                below.append(&mut child.children);
            }
        }
    }
}

impl Node {
    fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.children.is_empty()
    }

    fn child(&self, first: u8) -> Result<usize, usize> {
        self.children.binary_search_by_key(&first, |(byte, _)| *byte)
    }

    /// Shortens the label to `length` bytes; what the node held goes to a child with the others.
    fn split(&mut self, length: usize) {
        let Some(first) = self.label.get(length).copied() else { return };
        let below = Node {
            label: self.label[length..].into(),
            groups: std::mem::take(&mut self.groups),
            first: self.first,
            children: std::mem::take(&mut self.children),
        };
        self.label = self.label[..length].into();
        self.children.push((first, Arc::new(below)));
    }

    /// Takes the place of a node that only leads to its one child.
    fn shorten(&mut self) {
        if !self.groups.is_empty() || self.children.len() != 1 {
            return;
        }
        if let Some((_, child)) = self.children.pop() {
            let mut child = Arc::unwrap_or_clone(child);
            self.label = [&*self.label, &*child.label].concat().into();
            self.groups = std::mem::take(&mut child.groups);
            self.children = std::mem::take(&mut child.children);
        }
    }

    fn find_first(&self) -> Order {
        let own = self.groups.first().map(|group| group.order);
        let below = self.children.iter().map(|(_, child)| child.first);
        own.into_iter().chain(below).min().unwrap_or(Order::LAST)
    }
}

impl PathTree {
    fn add(&mut self, key: &[u8], group: &Arc<Group>) {
        let mut node = Arc::make_mut(&mut self.root);
        let mut rest = key;
        loop {
            node.first = node.first.min(group.order);
            let Some(first) = rest.first().copied() else { break };
            let place = match node.child(first) {
                Ok(place) => place,
                Err(place) => {
                    let mut leaf = Node::default();
                    leaf.label = rest.into();
                    node.children.insert(place, (first, Arc::new(leaf)));
                    place
                }
            };
            node = Arc::make_mut(&mut node.children[place].1);
            let common = node.label.iter().zip(rest).take_while(|(a, b)| a == b).count();
            node.split(common);
            rest = &rest[common..];
        }
        if let Err(place) = node.groups.binary_search_by_key(&group.order, |group| group.order) {
            node.groups.insert(place, Arc::clone(group));
        }
    }

    fn remove(&mut self, key: &[u8], order: &Order) {
        if !self.holds(key, order) {
            return;
        }
        // The way down is taken apart and put together again on the way up.
        let mut above: Vec<(Node, usize, u8)> = Vec::new();
        let mut node = Arc::unwrap_or_clone(std::mem::take(&mut self.root));
        let mut rest = key;
        while let Some(first) = rest.first().copied()
            && let Ok(place) = node.child(first)
        {
            let child = Arc::unwrap_or_clone(node.children.remove(place).1);
            rest = rest.get(child.label.len()..).unwrap_or_default();
            above.push((std::mem::replace(&mut node, child), place, first));
        }
        node.groups.retain(|group| group.order != *order);
        node.first = node.find_first();
        while let Some((mut parent, place, first)) = above.pop() {
            node.shorten();
            if !node.is_empty() {
                parent.children.insert(place, (first, Arc::new(node)));
            }
            parent.first = parent.find_first();
            node = parent;
        }
        self.root = Arc::new(node);
    }

    fn holds(&self, key: &[u8], order: &Order) -> bool {
        let (mut node, mut rest) = (&self.root, key);
        while let Some(first) = rest.first() {
            let Ok(place) = node.child(*first) else { return false };
            node = &node.children[place].1;
            let Some(after) = rest.strip_prefix(&*node.label) else { return false };
            rest = after;
        }
        node.groups.iter().any(|group| group.order == *order)
    }

    /// The first group before `best` that `accepts`, of those whose key the path begins with; else `best`.
    fn first<'a>(
        &'a self,
        path: &[u8],
        best: Option<&'a Arc<Group>>,
        accepts: &impl Fn(&Group) -> bool,
    ) -> Option<&'a Arc<Group>> {
        let mut limit = best.map_or(Order::LAST, |group| group.order);
        let mut best = best;
        let mut node = &*self.root;
        let mut rest = path;
        while node.first < limit {
            for group in node.groups.iter().take_while(|group| group.order < limit) {
                if accepts(group) {
                    (best, limit) = (Some(group), group.order);
                    break;
                }
            }
            let Some(first) = rest.first() else { break };
            let Ok(place) = node.child(*first) else { break };
            node = &node.children[place].1;
            match rest.strip_prefix(&*node.label) {
                Some(after) => rest = after,
                None => break,
            }
        }
        best
    }
}

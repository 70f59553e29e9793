//! Which groups can match a request, by its host and by how its path begins.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::group::{Group, Paths, Wildcard};

/// Groups by host, and under each host by path. A group stands under each of its hosts and paths.
#[derive(Default)]
pub(super) struct Index {
    any_host: PathTree,
    by_host: HashMap<Box<str>, PathTree, RandomState>,
    /// By what hosts end with, dot first.
    by_end: HashMap<Box<str>, PathTree, RandomState>,
    /// By what hosts start with, dot last.
    by_start: HashMap<Box<str>, PathTree, RandomState>,
}

impl Index {
    /// Indexes groups that are in order of rank.
    pub(super) fn new(groups: &[Group]) -> Self {
        let mut index = Self::default();
        for (rank, group) in groups.iter().enumerate() {
            let rank = rank as u32;
            if group.hosts.is_empty() {
                index.any_host.insert_group(group, rank);
            }
            for host in &group.hosts {
                let tree = match &host.name {
                    name if !name.is_by_label() => &mut index.any_host,
                    Wildcard::Exact(name) => index.by_host.entry(name.clone()).or_default(),
                    Wildcard::Ends(end) => index.by_end.entry(end.clone()).or_default(),
                    Wildcard::Starts(start) => index.by_start.entry(start.clone()).or_default(),
                };
                tree.insert_group(group, rank);
            }
        }
        index
    }

    /// The lowest rank that `accepts`, of the groups that stand under this host and path.
    pub(super) fn lowest(&self, host: &str, path: &[u8], accepts: impl Fn(usize) -> bool) -> Option<usize> {
        let mut limit = NONE;
        if !self.by_host.is_empty()
            && let Some(tree) = self.by_host.get(host)
        {
            limit = tree.lowest(path, limit, &accepts);
        }
        if !self.by_end.is_empty() || !self.by_start.is_empty() {
            for dot in memchr::memchr_iter(b'.', host.as_bytes()) {
                for tree in
                    [self.by_end.get(&host[dot..]), self.by_start.get(&host[..=dot])].into_iter().flatten()
                {
                    limit = tree.lowest(path, limit, &accepts);
                }
            }
        }
        limit = self.any_host.lowest(path, limit, &accepts);
        (limit != NONE).then_some(limit as usize)
    }
}

const NONE: u32 = u32::MAX;

/// Ranks by the beginning of the path: a radix tree. Its nodes lie in one list, so that paths of any depth
/// can be inserted and dropped.
#[derive(Default)]
struct PathTree {
    nodes: Vec<Node>,
}

#[derive(Default)]
struct Node {
    /// Bytes between the parent and here; empty at the root alone.
    label: Box<[u8]>,
    /// Groups whose paths begin with all labels down to here, ascending.
    ranks: Vec<u32>,
    /// Lowest rank here and below.
    lowest: u32,
    /// By the first byte of their labels, ascending.
    children: Vec<(u8, u32)>,
}

impl PathTree {
    fn insert_group(&mut self, group: &Group, rank: u32) {
        match &group.paths {
            Paths::Any => self.insert(b"", rank),
            Paths::Plain(prefixes) => prefixes.iter().for_each(|prefix| self.insert(prefix, rank)),
            Paths::Regex(regexes) => regexes.iter().for_each(|pattern| self.insert(&pattern.literal, rank)),
        }
    }

    /// Adds a rank; ranks come in ascending order.
    fn insert(&mut self, key: &[u8], rank: u32) {
        if self.nodes.is_empty() {
            self.nodes.push(Node { lowest: rank, ..Node::default() });
        }
        let (mut at, mut rest) = (0, key);
        while let Some(first) = rest.first() {
            at = match self.nodes[at].children.binary_search_by_key(first, |(byte, _)| *byte) {
                Ok(place) => {
                    let child = self.nodes[at].children[place].1 as usize;
                    let common = self.nodes[child].label.iter().zip(rest).take_while(|(a, b)| a == b).count();
                    rest = &rest[common..];
                    self.split(child, common);
                    child
                }
                Err(place) => {
                    let child = self.nodes.len();
                    self.nodes.push(Node { label: rest.into(), lowest: rank, ..Node::default() });
                    self.nodes[at].children.insert(place, (*first, child as u32));
                    rest = &[];
                    child
                }
            };
        }
        let ranks = &mut self.nodes[at].ranks;
        if ranks.last() != Some(&rank) {
            ranks.push(rank);
        }
    }

    /// Shortens a node's label to `length` bytes; what the node held goes to a child with the others.
    fn split(&mut self, at: usize, length: usize) {
        let lower = self.nodes.len() as u32;
        let node = &mut self.nodes[at];
        let Some(first) = node.label.get(length).copied() else { return };
        let upper = Node {
            label: node.label[..length].into(),
            ranks: Vec::new(),
            lowest: node.lowest,
            children: vec![(first, lower)],
        };
        let mut below = std::mem::replace(node, upper);
        below.label = below.label[length..].into();
        self.nodes.push(below);
    }

    /// The lowest rank below `limit` that `accepts`, of those whose key the path begins with; else `limit`.
    fn lowest(&self, path: &[u8], mut limit: u32, accepts: &impl Fn(usize) -> bool) -> u32 {
        let Some(mut node) = self.nodes.first() else { return limit };
        let mut rest = path;
        while node.lowest < limit {
            for rank in node.ranks.iter().take_while(|rank| **rank < limit) {
                if accepts(*rank as usize) {
                    limit = *rank;
                    break;
                }
            }
            let Some(first) = rest.first() else { break };
            let Ok(place) = node.children.binary_search_by_key(first, |(byte, _)| *byte) else { break };
            node = &self.nodes[node.children[place].1 as usize];
            match rest.strip_prefix(&*node.label) {
                Some(after) => rest = after,
                None => break,
            }
        }
        limit
    }
}

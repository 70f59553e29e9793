//! How a Redis is reached.

use std::fmt;
use std::time::Duration;

use tollgate_model::Secret;

/// How a Redis is reached.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Who is asked.
    pub topology: Topology,
    /// How to log in.
    pub login: Login,
    /// Number of the database; a cluster has only 0.
    pub database: i64,
    /// How to speak TLS, where that is to be spoken.
    pub tls: Option<Tls>,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long an answer may take.
    pub answer_timeout: Duration,
}

/// Who is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Topology {
    /// One server.
    One(Node),
    /// The master that sentinels name.
    Sentinel {
        /// Name of the group of servers.
        master: String,
        /// The sentinels.
        nodes: Vec<Node>,
        /// How to log in to the sentinels.
        login: Login,
    },
    /// A cluster.
    Cluster {
        /// Nodes of it; the others are learnt from them.
        nodes: Vec<Node>,
        /// How often a command follows where nodes send it.
        max_redirections: u32,
    },
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// How to log in.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Login {
    /// The user; without one only the password is sent.
    pub username: Option<String>,
    /// The password; without one nothing is sent.
    pub password: Option<Secret>,
}

/// How to speak TLS.
#[derive(Debug, Clone, PartialEq)]
pub struct Tls {
    /// Whether the server's certificate is checked.
    pub verify: bool,
    /// Name the server is asked for and its certificate must have; its host where there is none.
    pub server_name: Option<String>,
}

impl fmt::Display for Settings {
    /// Where the servers are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = match &self.topology {
            Topology::One(node) => return node.fmt(f),
            Topology::Sentinel { master, nodes, .. } => {
                write!(f, "{master} of sentinels ")?;
                nodes
            }
            Topology::Cluster { nodes, .. } => nodes,
        };
        for (index, node) in nodes.iter().enumerate() {
            write!(f, "{}{node}", if index > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

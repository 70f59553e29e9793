//! Whether snippets run here, and what they may require: `untrusted_lua` and `untrusted_lua_sandbox_requires`.

use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;

/// What Lua of the configuration may do (Kong 3.11: `untrusted_lua`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Untrusted {
    /// Nothing: a configuration with Lua is refused.
    Off,
    /// Run in the sandbox.
    #[default]
    Sandbox,
    /// The same, and require any module there is, make metatables, and repeat strings. Files and processes are out of
    /// reach here too.
    On,
}

impl Untrusted {
    /// Reads the property.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "off" => Some(Self::Off),
            "sandbox" => Some(Self::Sandbox),
            "on" => Some(Self::On),
            _ => None,
        }
    }
}

/// What the node's configuration says of Lua.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// `untrusted_lua`
    pub untrusted: Untrusted,
    /// `untrusted_lua_sandbox_requires`
    pub requires: Vec<String>,
}

static POLICY: LazyLock<ArcSwap<Policy>> = LazyLock::new(ArcSwap::default);

impl Policy {
    /// Makes this the policy of the process, before a configuration is read under it.
    pub fn install(self) {
        POLICY.store(Arc::new(self));
    }

    pub(crate) fn current() -> Arc<Self> {
        POLICY.load_full()
    }

    pub(crate) fn may_require(&self, module: &str) -> bool {
        self.untrusted == Untrusted::On || self.requires.iter().any(|name| name == module)
    }
}

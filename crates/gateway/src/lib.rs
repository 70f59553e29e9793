//! Compiled state, router, plugin trait and chain, balancer, Kong's answers, the request path.

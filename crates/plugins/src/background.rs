//! The thread for what is nobody's request: workers come and go when a node's properties change, and what is done in
//! the background must not.

use std::io;
use std::sync::LazyLock;

use tokio::runtime::Handle;

/// The thread's runtime. It is started when it is first asked for.
///
/// # Errors
/// There can be no such thread.
pub fn runtime() -> Result<&'static Handle, &'static io::Error> {
    static RUNTIME: LazyLock<io::Result<Handle>> = LazyLock::new(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        std::thread::Builder::new()
            .name("background".to_owned())
            .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
        Ok(handle)
    });
    RUNTIME.as_ref()
}

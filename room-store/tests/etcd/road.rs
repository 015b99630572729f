//! A road to etcd that can be closed for one client alone: bytes pass, or do not.

use std::sync::Arc;

use servers::Etcd;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// A relay on a port of its own. Closed, it takes connections and lets nothing through.
pub(super) struct Road {
    listener: Arc<TcpListener>,
    to: String,
    relaying: JoinHandle<()>,
}

impl Road {
    pub(super) async fn to(etcd: &Etcd) -> Self {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.expect("a free port"));
        let to = etcd.endpoint().trim_start_matches("http://").to_owned();
        let relaying = tokio::spawn(relay(Arc::clone(&listener), to.clone()));
        Self { listener, to, relaying }
    }

    pub(super) fn endpoint(&self) -> String {
        format!("http://{}", self.listener.local_addr().expect("it listens"))
    }

    /// Cuts what is there; what comes waits.
    pub(super) fn close(&self) {
        self.relaying.abort();
    }

    pub(super) fn open(&mut self) {
        self.relaying.abort();
        self.relaying = tokio::spawn(relay(Arc::clone(&self.listener), self.to.clone()));
    }
}

impl Drop for Road {
    fn drop(&mut self) {
        self.close();
    }
}

async fn relay(listener: Arc<TcpListener>, to: String) {
    let mut connections = JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        let to = to.clone();
        connections.spawn(async move {
            // Either side may go away.
            if let Ok(mut server) = TcpStream::connect(to).await {
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}

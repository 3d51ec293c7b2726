//! Serves the router over HTTP/1.1, within bounds: connections, and the time in which a request's head
//! has to arrive.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};
use tower::Service;

/// Connections at the same time. Further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 1_024;
/// For the whole head of a request, also of the next one on an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Requests under way when the server stops have this long to end.
const STOP_WITHIN: Duration = Duration::from_secs(2);
/// The system has no file descriptor, or the like.
const AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(100);

/// Serves until `stop` turns true, and then ends what is under way.
pub async fn serve(listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>) {
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let next = async {
            // Never closed, so that there is always a permit to come.
            let slot = slots.clone().acquire_owned().await.ok();
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            next = next => next,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the admin API cannot accept a connection");
                tokio::time::sleep(AFTER_ACCEPT_ERROR).await;
                continue;
            }
        };
        let router = router.clone();
        let service =
            service_fn(move |request: Request<Incoming>| answer(router.clone(), peer, request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // What goes wrong on a connection is its client's business.
            let _ = connection.await;
            drop(slot);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(STOP_WITHIN, graceful.shutdown()).await; // the rest is cut off
}

async fn answer(
    mut router: Router,
    peer: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<axum::response::Response, Infallible> {
    request.extensions_mut().insert(ConnectInfo(peer));
    // A router is always ready.
    router.call(request.map(Body::new)).await
}

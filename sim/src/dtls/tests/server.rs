//! OpenSSL as a server for one client, over datagrams in memory. It answers whatever it is told with the
//! same and an exclamation mark.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    sync::{Arc, Mutex},
};

use openssl::ssl::{
    Ssl, SslContext, SslMethod, SslOptions, SslSessionCacheMode, SslStream, SslVersion,
};

pub(super) const CCM8: &str = "PSK-AES128-CCM8";

/// What `cellwise` offers. OpenSSL takes tags of eight bytes for too short above level 0.
pub(super) const OFFERED: &str =
    "PSK-AES128-CCM8:PSK-AES128-CBC-SHA256:PSK-AES128-GCM-SHA256:@SECLEVEL=0";

#[derive(Debug, Default, Clone)]
struct Pipe {
    inbox: Arc<Mutex<VecDeque<Vec<u8>>>>,
    outbox: Arc<Mutex<VecDeque<Vec<u8>>>>,
}

/// One read is one datagram.
impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let datagram = self.inbox.lock().unwrap().pop_front();
        let datagram = datagram.ok_or(io::ErrorKind::WouldBlock)?;
        let len = datagram.len().min(buf.len());
        buf[..len].copy_from_slice(&datagram[..len]);
        Ok(len)
    }
}

/// One write is one datagram.
impl Write for Pipe {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.outbox.lock().unwrap().push_back(buf.to_vec());
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) struct Server {
    context: SslContext,
    identity: Arc<Mutex<&'static str>>,
    pipe: Pipe,
    stream: SslStream<Pipe>,
    answers: bool,
}

impl Server {
    pub(super) fn new(key: &'static [u8], suites: &str, cookies: bool) -> Self {
        let identity = Arc::new(Mutex::new("meter-1"));
        let mut builder = SslContext::builder(SslMethod::dtls_server()).unwrap();
        builder
            .set_min_proto_version(Some(SslVersion::DTLS1_2))
            .unwrap();
        builder.set_cipher_list(suites).unwrap();
        builder.set_session_cache_mode(SslSessionCacheMode::OFF);
        let known = Arc::clone(&identity);
        builder.set_psk_server_callback(move |_, identity, buf| {
            if identity != Some(known.lock().unwrap().as_bytes()) {
                return Ok(0);
            }
            buf[..key.len()].copy_from_slice(key);
            Ok(key.len())
        });
        if cookies {
            builder.set_options(SslOptions::COOKIE_EXCHANGE);
            builder.set_cookie_generate_cb(|_, buf| {
                buf[..6].copy_from_slice(b"cookie");
                Ok(6)
            });
            builder.set_cookie_verify_cb(|_, cookie| cookie == b"cookie");
        }
        let context = builder.build();
        let pipe = Pipe::default();
        let stream = SslStream::new(Ssl::new(&context).unwrap(), pipe.clone()).unwrap();
        Self {
            context,
            identity,
            pipe,
            stream,
            answers: true,
        }
    }

    /// The one identity that is not unknown.
    pub(super) fn knowing(self, identity: &'static str) -> Self {
        *self.identity.lock().unwrap() = identity;
        self
    }

    /// Answers nothing.
    pub(super) fn mute(mut self) -> Self {
        self.answers = false;
        self
    }

    pub(super) fn suite(&self) -> Option<String> {
        Some(self.stream.ssl().current_cipher()?.name().to_owned())
    }

    pub(super) fn take(&self, datagram: &[u8]) {
        let mut inbox = self.pipe.inbox.lock().unwrap();
        inbox.push_back(datagram.to_vec());
    }

    /// Does what there is to do, and repeats flights whose time has come.
    pub(super) fn drive(&mut self) {
        if !self.stream.ssl().is_init_finished() && self.stream.accept().is_err() {
            return;
        }
        let mut buf = [0; 1500];
        while let Ok(len @ 1..) = self.stream.ssl_read(&mut buf) {
            if self.answers {
                let answer = [&buf[..len], b"!"].concat();
                self.stream.ssl_write(&answer).unwrap();
            }
        }
    }

    pub(super) fn poll_transmit(&self) -> Option<Vec<u8>> {
        self.pipe.outbox.lock().unwrap().pop_front()
    }

    /// As after a restart of the server.
    pub(super) fn forget(&mut self) {
        self.pipe.inbox.lock().unwrap().clear();
        self.stream = SslStream::new(Ssl::new(&self.context).unwrap(), self.pipe.clone()).unwrap();
    }

    /// Ends the association with an alert; the next client is welcome.
    pub(super) fn close(&mut self) {
        // Its answer is not waited for.
        let _ = self.stream.shutdown();
        self.forget();
    }
}

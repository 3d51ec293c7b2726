//! Debian's nginx, as it is set up for files over TLS, with one worker.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command},
    thread,
    time::Duration,
};

pub(crate) struct Nginx {
    master: Child,
    port: u16,
}

impl Nginx {
    pub(crate) fn start(dir: &Path) -> Self {
        // the system chooses a port, which nginx takes a moment later
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let at = dir.display();
        let config = format!(
            "daemon off; master_process on; worker_processes 1; user root; pid {at}/nginx.pid; error_log {at}/nginx.log;
             events {{ worker_connections 4096; }}
             http {{ access_log off; sendfile on; tcp_nopush on; client_body_temp_path {at}/body; proxy_temp_path {at}/proxy;
               fastcgi_temp_path {at}/fastcgi; uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
               server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {at}/server.pem; ssl_certificate_key {at}/server.key;
                 ssl_protocols TLSv1.2 TLSv1.3; root {at}; }} }}"
        );
        let path = dir.join("nginx.conf");
        fs::write(&path, config).unwrap();
        let mut nginx = Command::new("nginx");
        nginx
            .arg("-c")
            .arg(&path)
            .arg("-e")
            .arg(dir.join("nginx.log"));
        let master = nginx
            .spawn()
            .expect("nginx, of Debian's package of that name");
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            thread::sleep(Duration::from_millis(20));
        }
        Self { master, port }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://127.0.0.1:{}/package.bin", self.port)
    }

    /// The process that serves.
    pub(crate) fn worker(&self) -> u32 {
        let pid = self.master.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children.split_whitespace().next().unwrap().parse().unwrap()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let pid = i32::try_from(self.master.id()).unwrap();
        // the master ends its worker
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGTERM);
        let _ = self.master.wait();
    }
}

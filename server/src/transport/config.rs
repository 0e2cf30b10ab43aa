//! The `[transport]` section.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::http2::MAX_FRAME_BYTES;

/// HTTP/2 windows are 31 bits wide.
const MAX_WINDOW_BYTES: u32 = (1 << 31) - 1;

/// Who may connect, for how long, and how much may be under way on one connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Connections at a time; more are closed at once. The limit on open files is raised for them as
    /// far as that goes. Defaults to 4096.
    pub max_connections: usize,
    /// Connections at a time from one address. Defaults to 4096: clients behind one proxy or
    /// address translation look like one.
    pub max_connections_per_ip: usize,
    /// How long a peer may take to say that it speaks HTTP/2. Defaults to 5 s.
    #[serde(with = "humantime_serde")]
    pub preface_timeout: Duration,
    /// Age, give or take a tenth, at which a client is asked to connect anew, so that clients
    /// spread over servers that were added. Defaults to 30 min.
    #[serde(with = "humantime_serde")]
    pub max_connection_age: Duration,
    /// How long calls may go on after that. Defaults to 5 min.
    #[serde(with = "humantime_serde")]
    pub max_connection_age_grace: Duration,
    /// How long calls may go on at shutdown. Defaults to 25 s, which leaves time to stop within
    /// the 30 s that orchestrators commonly give.
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Duration,
    /// Calls at a time on one connection. Defaults to 128.
    pub max_concurrent_streams: u32,
    /// Bytes that a stream may send before they are read. Defaults to 2 MiB.
    pub stream_window: ByteSize,
    /// Bytes that a connection may send before they are read, and so the most that one can make
    /// the server hold outside the admission budget. Defaults to 256 MiB, the streams' windows.
    pub connection_window: ByteSize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_connections: 4096,
            max_connections_per_ip: 4096,
            preface_timeout: Duration::from_secs(5),
            max_connection_age: Duration::from_secs(30 * 60),
            max_connection_age_grace: Duration::from_secs(5 * 60),
            drain_timeout: Duration::from_secs(25),
            max_concurrent_streams: 128,
            stream_window: ByteSize::mib(2),
            connection_window: ByteSize::mib(256),
        }
    }
}

impl Config {
    /// Returns every fault, each naming its key; none if the section is usable.
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let counts = [
            ("max_connections", self.max_connections == 0),
            ("max_connections_per_ip", self.max_connections_per_ip == 0),
            ("max_concurrent_streams", self.max_concurrent_streams == 0),
            ("preface_timeout", self.preface_timeout.is_zero()),
            ("max_connection_age", self.max_connection_age.is_zero()),
        ];
        for (key, _) in counts.into_iter().filter(|(_, is_zero)| *is_zero) {
            faults.push(format!(
                "transport.{key} is zero, and nothing could be served"
            ));
        }
        let windows = [
            ("stream_window", self.stream_window),
            ("connection_window", self.connection_window),
        ];
        let allowed = u64::from(MAX_FRAME_BYTES)..=u64::from(MAX_WINDOW_BYTES);
        for (key, window) in windows {
            if !allowed.contains(&window.as_u64()) {
                faults.push(format!(
                    "transport.{key} is {window}; a window is between one frame \
                     ({MAX_FRAME_BYTES} bytes) and {MAX_WINDOW_BYTES} bytes"
                ));
            }
        }
        let streams = u64::from(self.max_concurrent_streams);
        let needed = ByteSize(streams.saturating_mul(self.stream_window.as_u64()));
        if self.connection_window < needed {
            faults.push(format!(
                "transport.connection_window is {}, less than max_concurrent_streams x \
                 stream_window ({needed}): one stream that waits would stop the others",
                self.connection_window
            ));
        }
        faults
    }

    pub(super) fn stream_window_u32(&self) -> u32 {
        window(self.stream_window)
    }

    pub(super) fn connection_window_u32(&self) -> u32 {
        window(self.connection_window)
    }
}

/// A section that was not validated still gets windows that HTTP/2 can express.
fn window(size: ByteSize) -> u32 {
    u32::try_from(size.as_u64()).map_or(MAX_WINDOW_BYTES, |bytes| bytes.min(MAX_WINDOW_BYTES))
}

#[cfg(test)]
mod tests {
    use figment::Figment;
    use figment::providers::{Format as _, Toml};

    use super::*;

    fn read(text: &str) -> Result<Config, Box<figment::Error>> {
        Figment::from(Toml::string(text))
            .extract()
            .map_err(Box::new)
    }

    #[test]
    fn sizes_and_times_have_units_and_unknown_keys_are_refused() {
        let config = read("stream_window = '1 MiB'\ndrain_timeout = '1m 5s'").unwrap();
        let expected = Config {
            stream_window: ByteSize::mib(1),
            drain_timeout: Duration::from_secs(65),
            ..Config::default()
        };
        assert_eq!(config, expected);
        let error = read("drain_timout = '5s'").unwrap_err().to_string();
        assert!(
            error.contains("drain_timout") && error.contains("drain_timeout"),
            "{error}"
        );
    }

    #[test]
    fn defaults_have_no_fault() {
        assert_eq!(Config::default().validate(), Vec::<String>::new());
    }

    #[test]
    fn all_faults_are_reported_at_once() {
        let config = Config {
            max_connections: 0,
            preface_timeout: Duration::ZERO,
            stream_window: ByteSize::gib(2),
            ..Config::default()
        };
        let faults = config.validate();
        assert_eq!(faults.len(), 4, "{faults:#?}");
    }

    #[test]
    fn a_connection_window_smaller_than_its_streams_is_a_fault() {
        let config = Config {
            connection_window: ByteSize::mib(255),
            ..Config::default()
        };
        let faults = config.validate();
        assert!(faults[0].contains("connection_window is 255"), "{faults:?}");
    }
}

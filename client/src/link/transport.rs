//! Transport parameters of every link, each set by hand, and the UDP socket below.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::{
    AckFrequencyConfig, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt,
};
use socket2::{Domain, Protocol, Socket, Type};

/// Largest UDP payload looked for where nothing is known of the path: Ethernet without surprises.
const MTU_MAX_DEFAULT: u16 = 1452;

/// Largest UDP payload on loopback: ten segments of one send stay below 64 KiB.
const MTU_MAX_LOOPBACK: u16 = 6500;

/// Packets that are acknowledged together: every answer of ours carries acknowledgements anyway.
const ACK_PACKETS: u32 = 24;

/// Longest time that an acknowledgement waits for more packets.
const ACK_DELAY_MAX: Duration = Duration::from_millis(5);

/// Largest UDP payload that is accepted.
pub(super) const UDP_PAYLOAD_BYTES_MAX: u16 = 6550;

/// Socket buffers: a burst of frames from many connections must not be dropped.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Received bytes of one stream that may wait for the reader.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Received bytes of all streams of a connection that may wait for their readers.
const RECEIVE_WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// Sent bytes of a connection that are not acknowledged yet.
const SEND_WINDOW_BYTES: u64 = 8 * 1024 * 1024;

/// The two streams that the dialling side opens.
const STREAMS_MAX: u32 = 2;

/// Bytes of handshake messages that may wait.
const CRYPTO_BUFFER_BYTES: usize = 16 * 1024;

/// What may differ between links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransportOptions {
    /// Largest UDP payload in bytes that is tried, 1,200 to 6,500. `None`: 1,452, and 6,500 to
    /// loopback addresses. Larger ones cost less CPU where the network carries them.
    pub mtu_max: Option<u16>,
    /// Silence after which a connection is given up. Default 2 s: what is in flight with a node
    /// that died waits no longer.
    pub idle_timeout: Duration,
    /// An idle connection is kept alive this often. Default 500 ms.
    pub keep_alive: Duration,
    /// Longest time for making a connection. Default 3 s.
    pub connect_timeout: Duration,
}

impl Default for TransportOptions {
    fn default() -> Self {
        Self {
            mtu_max: None,
            idle_timeout: Duration::from_secs(2),
            keep_alive: Duration::from_millis(500),
            connect_timeout: Duration::from_secs(3),
        }
    }
}

/// The parameters of a connection with `remote`, for either side.
#[must_use]
pub fn transport_config(options: TransportOptions, remote: IpAddr) -> Arc<TransportConfig> {
    let mtu_path = if remote.is_loopback() {
        MTU_MAX_LOOPBACK
    } else {
        MTU_MAX_DEFAULT
    };
    let mtu_max = options
        .mtu_max
        .unwrap_or(mtu_path)
        .clamp(1200, MTU_MAX_LOOPBACK);
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(mtu_max);
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(ACK_PACKETS))
        .max_ack_delay(Some(ACK_DELAY_MAX));
    let idle_ms = u32::try_from(options.idle_timeout.as_millis()).unwrap_or(u32::MAX);
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(idle_ms))))
        .keep_alive_interval(Some(options.keep_alive))
        .crypto_buffer_size(CRYPTO_BUFFER_BYTES)
        .datagram_receive_buffer_size(None)
        .datagram_send_buffer_size(0)
        .initial_mtu(1200)
        .min_mtu(1200)
        .mtu_discovery_config(Some(discovery))
        .ack_frequency_config(Some(acks))
        .allow_spin(false)
        // Small frames must not wait behind bulk; the two streams have priorities of their own.
        .send_fairness(true)
        .enable_segmentation_offload(true);
    Arc::new(config)
}

/// Settings of an endpoint; `reset_key` makes the tokens by which others learn that it was started
/// anew, so it should be the same after a restart.
///
/// # Panics
/// Never: the constant below is within what the protocol allows.
#[must_use]
pub fn endpoint_config(reset_key: Option<Arc<dyn quinn::crypto::HmacKey>>) -> EndpointConfig {
    let mut config = reset_key.map_or_else(EndpointConfig::default, EndpointConfig::new);
    config
        .max_udp_payload_size(UDP_PAYLOAD_BYTES_MAX)
        .expect("the constant is above the protocol's least size");
    config
}

/// Binds a UDP socket with large buffers; the system may grant less.
///
/// # Errors
/// What the system reports, such as an address that is in use.
pub fn bind_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

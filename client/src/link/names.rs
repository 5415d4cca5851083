//! Names in certificates: which cluster, which node, which role.
//!
//! A node's certificate has two DNS names: `n-NAME-n.CLUSTER.quorate`, for who expects this node,
//! and `CLUSTER.quorate`, for who takes any node of the cluster. A client's has
//! `ROLE.client.CLUSTER.quorate`. CLUSTER is the cluster's id in hexadecimal. The node's name
//! stands between letters because it may begin or end with a hyphen, which a DNS label may not.

use std::fmt;
use std::str::FromStr;

use quorate_ring::NodeName;

/// Domain under which all names stand.
const DOMAIN: &str = "quorate";

/// Id of a cluster: 128 random bits, drawn when it was created.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub [u8; 16]);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterId({self})")
    }
}

/// A text is no cluster id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cluster id has 32 hexadecimal digits")]
pub struct ClusterIdError;

impl FromStr for ClusterId {
    type Err = ClusterIdError;

    fn from_str(text: &str) -> Result<Self, ClusterIdError> {
        let plain = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() != 32 || !text.bytes().all(plain) {
            return Err(ClusterIdError);
        }
        u128::from_str_radix(text, 16)
            .map(|id| Self(id.to_be_bytes()))
            .map_err(|_| ClusterIdError)
    }
}

/// What a client's certificate allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Reads and writes.
    Data,
    /// Everything.
    Admin,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Data => "data",
            Self::Admin => "admin",
        })
    }
}

/// A text is no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a role is `data` or `admin`")]
pub struct RoleError;

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        match text {
            "data" => Ok(Self::Data),
            "admin" => Ok(Self::Admin),
            _ => Err(RoleError),
        }
    }
}

/// Name that every node of `cluster` has.
#[must_use]
pub fn cluster_san(cluster: ClusterId) -> String {
    format!("{cluster}.{DOMAIN}")
}

/// Name that only node `name` of `cluster` has.
#[must_use]
pub fn node_san(cluster: ClusterId, name: &NodeName) -> String {
    format!("n-{name}-n.{cluster}.{DOMAIN}")
}

/// Name of clients of `cluster` with `role`.
#[must_use]
pub fn client_san(cluster: ClusterId, role: Role) -> String {
    format!("{role}.client.{cluster}.{DOMAIN}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_name_makes_a_server_name() {
        let cluster: ClusterId = "00112233445566778899aabbccddeeff".parse().expect("an id");
        assert_eq!(cluster.to_string().parse(), Ok(cluster));
        for name in ["1", "-", "a-", "-a", "abcdefghijklmnopqrstuvwxyz012345"] {
            let san = node_san(cluster, &name.parse().expect("a name"));
            rustls::pki_types::ServerName::try_from(san).expect("a DNS name");
        }
    }
}

//! Which addresses the engine may be sent to by those who register endpoints (HTTPF-20 to HTTPF-22).

use super::endpoint::Problem;
use crate::config::settings::SecuritySettings;
use reqwest::Url;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use url::Host;

/// Checks all of a URL that can be checked without asking for addresses.
pub fn check_url(text: &str, security: &SecuritySettings) -> Result<Url, Problem> {
    let refuse = |message: &str| Err(("url_validation_failed", message.to_owned()));
    let Ok(url) = Url::parse(text) else { return refuse("Invalid URL") };
    if security.require_https && url.scheme() != "https" {
        return refuse("HTTPS is required");
    }
    let Some(host) = url.host() else { return refuse("Invalid URL") };
    let name = url.host_str().unwrap_or("");
    if !security.url_allowlist.iter().any(|pattern| matches_glob(pattern, name)) {
        return refuse("URL not in allowlist");
    }
    let literal = match host {
        Host::Ipv4(address) => Some(IpAddr::V4(address)),
        Host::Ipv6(address) => Some(IpAddr::V6(address)),
        Host::Domain(_) => None,
    };
    if security.block_private_ips && literal.is_some_and(is_private) {
        return refuse("Private IP blocked");
    }
    Ok(url)
}

/// Whether an address is of this machine, its network, or nobody's.
pub fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_private_v4(address),
        IpAddr::V6(address) => is_private_v6(address),
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    matches!(
        (a, b, c),
        (0 | 10 | 127, ..)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 168, _)
            | (192, 0, 0 | 2)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
            | (224.., ..)
    )
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    if let Some(mapped) = address.to_ipv4_mapped() {
        return is_private_v4(mapped);
    }
    let segments = address.segments();
    let first = segments[0];
    address.is_loopback()
        || address.is_unspecified()
        || first & 0xfe00 == 0xfc00
        || first & 0xffc0 == 0xfe80
        || first & 0xff00 == 0xff00
        // Addresses that carry an IPv4 address inside: NAT64 and 6to4.
        || (first, segments[1]) == (0x64, 0xff9b)
        || first == 0x2002
}

/// Shell-style patterns: `*`, `?`, `[…]`. An invalid pattern matches nothing.
pub fn matches_glob(pattern: &str, text: &str) -> bool {
    glob::Pattern::new(pattern).is_ok_and(|pattern| pattern.matches(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, security: &SecuritySettings) -> Result<(), String> {
        check_url(url, security).map(drop).map_err(|(_, message)| message)
    }

    // HTTPF-20
    #[test]
    fn urls() {
        let strict = SecuritySettings::default();
        let listed = SecuritySettings { url_allowlist: vec!["*.example.com".to_owned()], ..strict.clone() };
        for (url, security, expected) in [
            ("https://example.com/x", &strict, Ok(())),
            ("HTTPS://example.com:9/x", &strict, Ok(())),
            ("not a url", &strict, Err("Invalid URL")),
            ("http://example.com", &strict, Err("HTTPS is required")),
            ("https://a.example.com", &listed, Ok(())),
            ("https://example.com", &listed, Err("URL not in allowlist")),
            ("https://2130706433/", &strict, Err("Private IP blocked")),
            ("https://127.1/", &strict, Err("Private IP blocked")),
            ("https://[::ffff:10.0.0.1]/", &strict, Err("Private IP blocked")),
            ("https://8.8.8.8/", &strict, Ok(())),
        ] {
            assert_eq!(check(url, security), expected.map_err(str::to_owned), "{url}");
        }
    }

    // HTTPF-21
    #[test]
    fn private_addresses() {
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "0.1.2.3",
            "255.255.255.255",
            "192.0.2.1",
            "198.51.100.1",
            "203.0.113.9",
            "100.64.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "192.0.0.1",
            "::1",
            "::",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "64:ff9b::a00:1",
            "2002::1",
        ] {
            assert!(is_private(address.parse().expect("an address")), "{address}");
        }
        for address in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "192.0.1.1", "223.255.255.255", "2606:4700::1"] {
            assert!(!is_private(address.parse().expect("an address")), "{address}");
        }
    }
}

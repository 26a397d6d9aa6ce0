//! An address from options and a file; what is wrong with it is reported before anything is sent.

use crate::exit::Exit;
use crate::provider::rest::Address;
use crate::text::foreign;
use clap::{Args, ValueHint};
use serde::Deserialize;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Where the goods go.
#[derive(Args, Debug)]
#[command(next_help_heading = "Address")]
pub struct Destination {
    /// File with the address, TOML or JSON, `-` for stdin; keeps the address out of the process list
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub address_file: Option<PathBuf>,
    /// The address itself, or parts of it.
    #[command(flatten)]
    pub parts: AddressParts,
}

/// Parts of an address, from options or from a file; an option wins.
#[derive(Args, Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct AddressParts {
    /// First name
    #[arg(long, value_name = "NAME")]
    pub first_name: Option<String>,
    /// Last name
    #[arg(long, value_name = "NAME")]
    pub last_name: Option<String>,
    /// Street and number
    #[arg(long, value_name = "TEXT")]
    pub street_address: Option<String>,
    /// Suite, floor, and so on
    #[arg(long, value_name = "TEXT")]
    pub address_line2: Option<String>,
    /// City
    #[arg(long, value_name = "NAME")]
    pub city: Option<String>,
    /// State or province
    #[arg(long, value_name = "CODE")]
    pub state: Option<String>,
    /// Postal code
    #[arg(long, value_name = "CODE")]
    pub zip_code: Option<String>,
    /// Country, such as US
    #[arg(long, value_name = "CODE")]
    pub country: Option<String>,
    /// Telephone, such as +13055550100
    #[arg(long, value_name = "NUMBER")]
    pub phone: Option<String>,
    /// E-mail address
    #[arg(long, value_name = "ADDRESS")]
    pub email: Option<String>,
}

/// Largest file; an address has some 300 bytes, and a log named by mistake is noticed.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Puts the address together: an option wins over the file.
///
/// # Errors
///
/// Status 1 when the file cannot be read or is not as documented, 2 when a part is missing. The content is not printed.
pub(super) fn read(destination: &Destination) -> Result<Address, Exit> {
    let from_file = match &destination.address_file {
        Some(file) => {
            let name = foreign(&file.to_string_lossy()).to_string();
            let text = text_of(file).map_err(|reason| {
                Exit::failed(format!("{name} cannot be read: {reason}; name a file with --address-file"))
            })?;
            parse(&text).map_err(|mistake| {
                let remedy = "write TOML (`city = \"Miami\"`) or JSON with members of `checkout address --help`";
                Exit::failed(format!("{name}: {mistake}; {remedy}"))
            })?
        }
        None => AddressParts::default(),
    };
    complete(&destination.parts, from_file).map_err(|missing| {
        let options = missing.iter().map(|name| format!("--{}", name.replace('_', "-"))).collect::<Vec<_>>().join(", ");
        Exit::usage(format!("the address has no {}; give {options}, or name it in --address-file", missing.join(", ")))
    })
}

fn text_of(file: &Path) -> Result<String, String> {
    let reason = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        _ => error.to_string(),
    };
    let mut text = String::new();
    if file.as_os_str() == "-" {
        io::stdin().lock().take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(reason)?;
    } else {
        File::open(file).map_err(reason)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(reason)?;
    }
    if text.len() as u64 > FILE_BYTES_MAX { Err("it is larger than 64 KiB".to_owned()) } else { Ok(text) }
}

/// Reads either format: JSON begins with a brace, which TOML never does. The mistake names line and column.
fn parse(text: &str) -> Result<AddressParts, String> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| foreign(&error.to_string()).to_string());
    }
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        format!("{} at line {line}", foreign(error.message()))
    })
}

/// The whole address, or the names of the parts that are missing.
fn complete(options: &AddressParts, file: AddressParts) -> Result<Address, Vec<&'static str>> {
    let mut missing = Vec::new();
    let optional =
        |option: &Option<String>, file: Option<String>| option.clone().or(file).filter(|part| !part.trim().is_empty());
    let mut required = |name, option: &Option<String>, file| {
        optional(option, file).unwrap_or_else(|| {
            missing.push(name);
            String::new()
        })
    };
    let address = Address {
        first_name: required("first_name", &options.first_name, file.first_name),
        last_name: required("last_name", &options.last_name, file.last_name),
        street_address: required("street_address", &options.street_address, file.street_address),
        address_line2: optional(&options.address_line2, file.address_line2),
        city: required("city", &options.city, file.city),
        state: optional(&options.state, file.state),
        zip_code: required("zip_code", &options.zip_code, file.zip_code),
        country: required("country", &options.country, file.country),
        phone: optional(&options.phone, file.phone),
        email: optional(&options.email, file.email),
    };
    if missing.is_empty() { Ok(address) } else { Err(missing) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;

    fn fixture() -> String {
        let path = format!("{}/tests/fixtures/rest/checkout-address.request.json", env!("CARGO_MANIFEST_DIR"));
        let request: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        request["address"].to_string()
    }

    #[test]
    fn both_formats_mean_the_same_and_an_option_wins() {
        let json = parse(&fixture()).unwrap();
        let toml = "first_name = \"Ada\"\nlast_name = \"Example\"\nstreet_address = \"1 Test Plaza\"\naddress_line2 = \
                    \"Suite 2\"\ncity = \"Miami\"\nstate = \"FL\"\nzip_code = \"33101\"\ncountry = \"US\"\nphone = \
                    \"+13055550100\"\nemail = \"ada@example.com\"\n";
        assert_eq!(parse(toml).unwrap(), json);
        let options =
            AddressParts { city: Some("Orlando".to_owned()), state: Some(String::new()), ..Default::default() };
        let address = complete(&options, json).unwrap();
        assert_eq!((address.city.as_str(), address.state, address.zip_code.as_str()), ("Orlando", None, "33101"));
    }

    #[test]
    fn every_missing_part_is_named_at_once() {
        let some =
            AddressParts { city: Some("Miami".to_owned()), country: Some("  ".to_owned()), ..Default::default() };
        let missing = complete(&some, AddressParts::default()).unwrap_err();
        assert_eq!(missing, ["first_name", "last_name", "street_address", "zip_code", "country"]);
    }

    #[test]
    fn a_mistake_has_its_place() {
        for (text, what, place) in [
            ("{\"city\":\n\"Miami\",}", "trailing comma", "line 2"),
            ("{\"town\":\"Miami\"}", "unknown field `town`", "line 1"),
            ("city = \"Miami\"\nzip_code = 33101\n", "invalid type: integer", "line 2"),
            ("city = \"Miami\"\ntown = \"Miami\"\n", "unknown field `town`", "line 2"),
            ("city = \"Miami\ncountry = \"US\"\n", "invalid basic string", "line 1"),
            ("[]", "", "line 1"),
        ] {
            let mistake = parse(text).unwrap_err();
            assert!(mistake.contains(what) && mistake.contains(place), "{mistake}");
            assert!(!mistake.contains('\n'), "{mistake}");
        }
    }
}

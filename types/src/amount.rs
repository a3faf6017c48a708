//! Amounts as people read them, from how configs write them: `604800000` of a key in milliseconds is 7 days.

const BYTES: &[(i64, &str)] = &[(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
const MILLIS: &[(i64, &str)] = &[(86_400_000, "days"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];

/// What the value of the config `name` means, where its digits alone do not say it: `7 days`, `32 MiB`, `never`.
pub fn readable(name: &str, value: &str) -> Option<String> {
    match value.trim().parse::<i64>().ok()? {
        i64::MAX => Some("never".to_owned()),
        number if name.ends_with(".bytes") || name.contains(".bytes.") => in_units(number, BYTES),
        number if name.ends_with(".ms") => in_units(number, MILLIS),
        _ => None,
    }
}

/// So many milliseconds: in the largest unit that leaves no fraction.
pub fn millis(number: i64) -> String {
    in_units(number, MILLIS).unwrap_or_else(|| format!("{number} ms"))
}

/// So many bytes: in the largest unit that leaves no fraction.
pub fn bytes(number: i64) -> String {
    in_units(number, BYTES).unwrap_or_else(|| format!("{number} bytes"))
}

fn in_units(number: i64, units: &[(i64, &str)]) -> Option<String> {
    let (size, name) = units.iter().find(|(size, _)| number >= *size && number % size == 0)?;
    Some(match number / size {
        1 if *name == "days" => "1 day".to_owned(),
        count => format!("{count} {name}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: a value is said in the unit that its key is in, and only where no digit is lost.
    #[test]
    fn values_are_readable() {
        for (name, value, said) in [
            ("a.bytes", "33554432", Some("32 MiB")),
            ("limit.header.bytes.per.record", "65536", Some("64 KiB")),
            ("a.bytes", "1048588", None),
            ("retention.bytes", "-1", None),
            ("a.ms", "604800000", Some("7 days")),
            ("a.ms", "86400000", Some("1 day")),
            ("a.ms", "60000", Some("1 min")),
            ("a.ms", "9223372036854775807", Some("never")),
            ("a.count", "86400000", None),
            ("a.ms", "soon", None),
        ] {
            assert_eq!(readable(name, value).as_deref(), said, "{name}={value}");
        }
        assert_eq!((millis(86_400_000), millis(1_500), millis(0)), ("1 day".into(), "1500 ms".into(), "0 ms".into()));
        assert_eq!(bytes(10), "10 bytes");
    }
}

//! From where to where each partition is read: `--from` and `--until` seen against the offsets that there are.

use super::point::Point;

/// A partition's offsets as they are when reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct Known {
    /// The partition.
    pub(in crate::cli) partition: u32,
    /// The first offset kept.
    pub(in crate::cli) earliest: u64,
    /// Everything below is readable.
    pub(in crate::cli) latest: u64,
}

/// What is to be read of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct Span {
    /// The partition.
    pub(in crate::cli) partition: u32,
    /// The next offset to be read.
    pub(in crate::cli) next: u64,
    /// The first offset that is not read any more; `None` is never.
    pub(in crate::cli) end: Option<u64>,
    /// A record of this time or later ends it, too, in milliseconds since 1970.
    pub(in crate::cli) end_time: Option<i64>,
}

impl Span {
    /// Whether there is nothing left to be read.
    pub(in crate::cli) fn is_done(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct Range {
    /// Where to begin.
    pub(in crate::cli) from: Point,
    /// Where to end, if that was said.
    pub(in crate::cli) until: Option<Point>,
    /// Whether to go on beyond the end as it is now.
    pub(in crate::cli) follow: bool,
}

impl Range {
    /// What to read of `known`. `offset_at` says what a look-up found for a time: the first offset of it or later, if there is one.
    ///
    /// # Errors
    /// A sentence, if it begins before the first record that is kept.
    pub(in crate::cli) fn span(&self, known: Known, now: i64, offset_at: impl Fn(i64) -> Option<u64>) -> Result<Span, String> {
        let Known { partition, earliest, latest } = known;
        let place = |point: Point| match point {
            Point::Start => earliest,
            Point::End => latest,
            Point::Offset(offset) => offset,
            Point::BeforeEnd(records) => latest.saturating_sub(records).max(earliest),
            Point::Time(_) | Point::Ago(_) => point.time(now).and_then(&offset_at).unwrap_or(latest),
        };
        let next = place(self.from);
        if next < earliest {
            return Err(format!("offset {next} of partition {partition} is gone: the earliest is {earliest}; --from start begins there"));
        }
        // Where the time has not come yet, it is the records that tell when it has.
        let end_time = self.until.and_then(|until| until.time(now)).filter(|time| self.follow && offset_at(*time).is_none());
        let end = match self.until {
            Some(_) if end_time.is_some() => None,
            Some(until) if self.follow => Some(place(until)),
            Some(until) => Some(place(until).min(latest)),
            None => (!self.follow).then_some(latest),
        };
        Ok(Span { partition, next, end, end_time })
    }

    /// Whether it can be seen without a look into the topic that it ends before it begins.
    ///
    /// # Errors
    /// A sentence, if so.
    pub(in crate::cli) fn check(&self, now: i64) -> Result<(), String> {
        let Self { from, until: Some(until), .. } = *self else { return Ok(()) };
        let is_backwards = match (from, until) {
            (Point::Offset(from), Point::Offset(until)) => until < from,
            (Point::BeforeEnd(from), Point::BeforeEnd(until)) => until > from,
            _ => from.time(now).zip(until.time(now)).is_some_and(|(from, until)| until < from),
        };
        if is_backwards { Err(format!("--until {until} is before --from {from}: nothing can lie between")) } else { Ok(()) }
    }

    /// Whether it ends before it begins in every partition, as `spans` show.
    pub(in crate::cli) fn is_backwards(&self, spans: &[Span]) -> bool {
        self.until.is_some() && !spans.is_empty() && spans.iter().all(|span| span.end.is_some_and(|end| end < span.next))
    }

    /// Whether times have to be looked up.
    pub(in crate::cli) fn times(&self, now: i64) -> Vec<i64> {
        [Some(self.from), self.until].into_iter().flatten().filter_map(|point| point.time(now)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Known = Known { partition: 3, earliest: 10, latest: 100 };

    fn span(from: &str, until: Option<&str>, follow: bool) -> Result<(u64, Option<u64>, Option<i64>), String> {
        let range = Range { from: from.parse().unwrap(), until: until.map(|u| u.parse().unwrap()), follow };
        // A record a millisecond: the record of time t has offset t, and time 100 has not come.
        let span = range.span(KNOWN, 90, |time| u64::try_from(time).ok().filter(|t| *t < 100).map(|t| t.max(10)))?;
        assert_eq!(span.partition, 3);
        Ok((span.next, span.end, span.end_time))
    }

    /// A promise: each way to say a place leads to the offset that it means.
    #[test]
    fn places() {
        for (from, next) in
            [("start", 10), ("end", 100), ("42", 42), ("-5", 95), ("-1000", 10), ("@50", 50), ("@0", 10), ("@100", 100), ("30ms", 60)]
        {
            assert_eq!(span(from, None, false), Ok((next, Some(100), None)), "{from}");
            assert_eq!(span(from, None, true), Ok((next, None, None)), "{from}");
        }
        assert!(span("5", None, false).unwrap_err().contains("earliest is 10"));
    }

    /// A promise: an end before the beginning is seen; an empty range is none.
    #[test]
    fn backwards() {
        let range = |from: &str, until: &str| Range { from: from.parse().unwrap(), until: Some(until.parse().unwrap()), follow: false };
        for (from, until) in [("50", "20"), ("-5", "-10"), ("@50", "@20"), ("10ms", "30ms"), ("@80", "30ms")] {
            let reason = range(from, until).check(90).unwrap_err();
            assert!(reason.contains(&format!("--until {} is before", range(from, until).until.unwrap())), "{reason}");
            assert_eq!(range(until, from).check(90), Ok(()));
            assert_eq!(range(from, from).check(90), Ok(()));
        }
        // Of different kinds of places only the partitions know.
        let of = |from: &str, until: &str| {
            let range = range(from, until);
            range.check(90).unwrap();
            range.is_backwards(&[range.span(KNOWN, 90, |time| u64::try_from(time).ok()).unwrap()])
        };
        assert!(of("end", "start") && of("90", "-50") && of("50", "@20"));
        assert!(!of("start", "end") && !of("-10", "100") && !of("start", "start"));
    }

    /// A promise: reading ends where it was told to, and never waits for what has not come unless it follows.
    #[test]
    fn ends() {
        assert_eq!(span("start", Some("50"), false), Ok((10, Some(50), None)));
        assert_eq!(span("start", Some("500"), false), Ok((10, Some(100), None)));
        assert_eq!(span("start", Some("500"), true), Ok((10, Some(500), None)));
        assert_eq!(span("start", Some("end"), true), Ok((10, Some(100), None)));
        assert_eq!(span("start", Some("-5"), true), Ok((10, Some(95), None)));
        assert_eq!(span("start", Some("@50"), true), Ok((10, Some(50), None)));
        assert_eq!(span("start", Some("@200"), false), Ok((10, Some(100), None)));
        assert_eq!(span("start", Some("@200"), true), Ok((10, None, Some(200))));
    }
}

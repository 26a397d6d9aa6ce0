//! Takes out of a text what is different in each run, character for character, so that columns stay where they are.

/// UUIDs, hashes, ports, times and Unix seconds become the letters of their kind.
pub(super) fn redact(text: &str) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    let shapes = [
        ("hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh", 'u'),
        ("dddd-dd-ddTdd:dd:dd.dddZ", 't'),
        ("dddd-dd-dd dd:dd:dd", 't'),
        ("dddd-dd-dd dd:dd", 't'),
        ("127.0.0.1:ddddd", 'p'),
    ];
    for (shape, letter) in shapes {
        let shape: Vec<char> = shape.chars().collect();
        for at in 0..characters.len().saturating_sub(shape.len() - 1) {
            let found = &mut characters[at..at + shape.len()];
            if found.iter().zip(&shape).all(|(found, shape)| fits(*found, *shape)) {
                let varies = found.iter_mut().zip(&shape).filter(|(_, shape)| matches!(shape, 'h' | 'd'));
                varies.for_each(|(found, _)| *found = letter);
            }
        }
    }
    for (run, letter) in [(64, 'x'), (10, 's')] {
        let varies = |c: &char| if run == 64 { c.is_ascii_hexdigit() } else { c.is_ascii_digit() };
        let mut begin = 0;
        while begin < characters.len() {
            let length = characters[begin..].iter().take_while(|c| varies(c)).count();
            if length == run {
                characters[begin..begin + length].fill(letter);
            }
            begin += length.max(1);
        }
    }
    characters.into_iter().collect()
}

fn fits(found: char, shape: char) -> bool {
    match shape {
        'h' => found.is_ascii_hexdigit(),
        'd' => found.is_ascii_digit(),
        _ => found == shape,
    }
}

#[test]
fn what_varies_is_redacted_and_nothing_else() {
    let hash = "5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060";
    for (text, redacted) in [
        ("7b0f6a52-3c1e-4f55-9a6e-2d1f0c9e4a11", "uuuuuuuu-uuuu-uuuu-uuuu-uuuuuuuuuuuu".to_owned()),
        ("at 2026-01-15T10:00:00.000Z, 28.97", "at tttt-tt-ttTtt:tt:tt.tttZ, 28.97".to_owned()),
        ("2026-01-15 10:00:00 UTC B0D7KX91QZ", "tttt-tt-tt tt:tt:tt UTC B0D7KX91QZ".to_owned()),
        ("http://127.0.0.1:41379/ 1768471200 4182", "http://127.0.0.1:ppppp/ ssssssssss 4182".to_owned()),
        (&format!("0x{hash}"), format!("0x{}", "x".repeat(64))),
    ] {
        assert_eq!(redact(text), redacted);
    }
}

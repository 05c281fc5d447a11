package console

import "testing"

func TestSizesAreInPowersOfTenAndRoundedDown(t *testing.T) {
	for bytes, want := range map[int64]string{
		0: "0 MB", 999_999: "0 MB", 1_000_000: "1 MB", 15_999_999: "15 MB", 383_000_000: "383 MB", 365 << 20: "382 MB",
		999_999_999: "999 MB", 1_000_000_000: "1.0 GB", 1_449_999_999: "1.4 GB", 5_999_999_999: "5.9 GB", 2_040_000_000_000: "2040.0 GB",
	} {
		if got := Size(bytes); got != want {
			t.Errorf("%d bytes are %q; want %q", bytes, got, want)
		}
	}
}

// Package nearest finds the known words that are most like an unknown one, which may be a misspelt one. It imports little, since
// each call of `go tool` reads all that its tool imports.
package nearest

import "strings"

// To returns those of known, in their order, that have the least edit distance to word, and that distance. Upper and lower
// case are the same. A name is also found by one of its parts between colons, at one more than the part's distance: to
// "keyless", demo:keyless has the distance 1.
func To(word string, known []string) (names []string, distance int) {
	word = strings.ToLower(word)
	for _, name := range known {
		lower := strings.ToLower(name)
		d := levenshtein(word, lower)
		if parts := strings.Split(lower, ":"); len(parts) > 1 {
			for _, part := range parts {
				d = min(d, 1+levenshtein(word, part))
			}
		}
		if len(names) == 0 || d < distance {
			names, distance = nil, d
		}
		if d == distance {
			names = append(names, name)
		}
	}
	return names, distance
}

// levenshtein is the Levenshtein distance of a and b: how many bytes must be put in, left out or replaced to make b of a.
func levenshtein(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substituted := diagonal
			if a[i] != b[j] {
				substituted++
			}
			diagonal = row[j+1]
			row[j+1] = min(substituted, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// keptLogs is how many logs of earlier starts are kept beside the current one.
const keptLogs = 3

// rotate moves path to path.1, path.1 to path.2 and so on, and drops the oldest.
func rotate(path string) error {
	for i := keptLogs; i > 0; i-- {
		from := path
		if i > 1 {
			from = fmt.Sprintf("%s.%d", path, i-1)
		}
		if err := os.Rename(from, fmt.Sprintf("%s.%d", path, i)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// LogTail is the last lines of the log at path, or those from the panic of a Go program on, each indented and with a
// newline; empty if there are none.
func LogTail(path string, lines int) string {
	const goroutines = 200 // lines of stack traces that may follow the message of a panic
	reader := NewLogReader(path, lines+goroutines)
	defer reader.Close()
	all, err := reader.read()
	if err != nil {
		return ""
	}
	all = withoutTraces(all)
	first := max(0, len(all)-lines)
	if at := slices.IndexFunc(all, func(line string) bool { return strings.HasPrefix(line, "panic: ") }); at >= 0 {
		first = min(at, first)
	}
	all = all[first:min(len(all), first+lines)]
	var out strings.Builder
	for _, line := range all {
		line = stackTrace.ReplaceAllString(line, "")
		if runes := []rune(line); len(runes) > longestLine {
			line = string(runes[:longestLine]) + "…"
		}
		fmt.Fprintf(&out, "  | %s\n", line)
	}
	return out.String()
}

// stackTrace matches the stack trace that zap adds to a line of JSON. It stays in the log, and is not shown elsewhere.
var stackTrace = regexp.MustCompile(`,"stacktrace":"(?:[^"\\]|\\.)*"`)

// frame matches the second line of a frame of the stack traces that zap adds to a line of text; the first names the function. In the
// trace of a panic, an offset follows.
var frame = regexp.MustCompile(`^\t\S+\.go:\d+$`)

// color matches the colors that zap gives to a line of text.
var color = regexp.MustCompile("\x1b\\[[0-9;]*m")

// WithoutColor is a line of a log without the colors of zap's.
func WithoutColor(line string) string { return color.ReplaceAllString(line, "") }

// withoutTraces is lines without the stack traces and colors of zap's lines of text. They stay in the log, and are not shown elsewhere.
func withoutTraces(lines []string) []string {
	var kept []string
	for _, line := range lines {
		if frame.MatchString(line) && len(kept) > 0 {
			kept = kept[:len(kept)-1]
			continue
		}
		kept = append(kept, WithoutColor(line))
	}
	return kept
}

// longestLine is how much of a log's line is shown, in characters.
const longestLine = 400

// LogReader reads a log's last lines, and then what is added to it, also after a new start has rotated it.
type LogReader struct {
	path  string
	lines int // how many of the last lines come first

	file    *os.File
	partial []byte // the beginning of a line whose end is not written yet
}

// NewLogReader reads the log at path from its last lines on. There need not be a log yet.
func NewLogReader(path string, lines int) *LogReader { return &LogReader{path: path, lines: lines} }

// Close gives up the file.
func (r *LogReader) Close() {
	if r.file != nil {
		_ = r.file.Close()
	}
}

// read returns the lines that were added since it was last called.
func (r *LogReader) read() ([]string, error) {
	first := r.file == nil
	if first {
		file, err := os.Open(r.path)
		if errors.Is(err, os.ErrNotExist) {
			r.lines = -1 // once there is a log, all of its lines are new
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		r.file = file
		if err := r.skip(); err != nil {
			return nil, err
		}
	}
	added, err := io.ReadAll(r.file)
	if err != nil {
		return nil, err
	}
	moved := r.moved()
	whole := append(r.partial, added...)
	end := bytes.LastIndexByte(whole, '\n') + 1
	if moved || first && r.lines >= 0 {
		end = len(whole)
	}
	r.partial = bytes.Clone(whole[end:])
	var lines []string
	if end > 0 {
		lines = strings.Split(strings.TrimSuffix(string(whole[:end]), "\n"), "\n")
	}
	if first && r.lines >= 0 && len(lines) > r.lines {
		lines = lines[len(lines)-r.lines:]
	}
	if moved {
		_ = r.file.Close()
		r.file, r.lines = nil, -1
	}
	return lines, nil
}

// skip seeks to a place before the last lines that are asked for, so that a long log is not read as a whole.
func (r *LogReader) skip() error {
	if r.lines < 0 {
		return nil
	}
	const line = 4 << 10 // bytes, more than lines have on average
	info, err := r.file.Stat()
	if err != nil {
		return err
	}
	if start := info.Size() - int64(r.lines+64)*line; start > 0 {
		_, err = r.file.Seek(start, io.SeekStart)
	}
	return err
}

// moved says whether the log at the path is another file by now.
func (r *LogReader) moved() bool {
	current, err := os.Stat(r.path)
	if err != nil {
		return false
	}
	own, err := r.file.Stat()
	return err == nil && !os.SameFile(own, current)
}

// ReadLogs calls show for each line of the logs, with the index of its reader: once for what is there, and with follow
// for what is added until ctx ends.
func ReadLogs(ctx context.Context, readers []*LogReader, follow bool, show func(reader int, line string) error) error {
	for {
		for i, reader := range readers {
			lines, err := reader.read()
			if err != nil {
				return err
			}
			for _, line := range lines {
				if err := show(i, line); err != nil {
					return err
				}
			}
		}
		if !follow {
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil
		}
	}
}

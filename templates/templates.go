// Package templates holds the configuration files of the stack's programs.
package templates

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"strings"
	"text/template"
)

//go:embed *.tmpl
var files embed.FS

// Render returns the template name, a file name without ".tmpl", filled in from data. Beside data's own fields and
// methods a template has the function quote, which writes a string as JSON does: a form that JSON, YAML, text protos and
// MariaDB's option files all read.
func Render(name string, data any) ([]byte, error) {
	t, err := template.New(name+".tmpl").
		Funcs(template.FuncMap{"quote": Quote}).
		Option("missingkey=error").
		ParseFS(files, name+".tmpl")
	if err != nil {
		return nil, fmt.Errorf("template %s: %w", name, err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, data); err != nil {
		return nil, fmt.Errorf("template %s: %w", name, err)
	}
	return out.Bytes(), nil
}

// Quote is what quote does in a template.
func Quote(s string) string {
	var out strings.Builder
	encoder := json.NewEncoder(&out)
	// An ampersand stays as it is, so that a path that has one can be found in the file.
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(s) // no string fails to encode, and no write to a Builder fails
	return strings.TrimSuffix(out.String(), "\n")
}

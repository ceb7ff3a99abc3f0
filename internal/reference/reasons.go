package reference

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Reasons are the constants named Reason… or reason… of some source files, shown under a title.
type Reasons struct {
	Title, Intro string
	// Files are patterns of file names.
	Files []string
}

// ReasonsPage returns the page of reasons.
func ReasonsPage(groups []Reasons) (string, error) {
	p := newPage("Reasons", "Every reason that a status, an event or a metric can show. A reason is one word; the message beside it names the object and the way out.")
	for _, g := range groups {
		var rows [][]string
		for _, pattern := range g.Files {
			found, err := reasonRows(pattern)
			if err != nil {
				return "", err
			}
			rows = append(rows, found...)
		}
		slices.SortFunc(rows, func(a, b []string) int { return strings.Compare(a[0], b[0]) })
		p.text("## " + g.Title)
		p.text(g.Intro)
		p.table([]string{"Reason", "Meaning"}, rows)
	}
	return p.done(), nil
}

func reasonRows(pattern string) ([][]string, error) {
	files, err := filepath.Glob(pattern)
	if err != nil {
		return nil, fmt.Errorf("read the reasons: %w", err)
	}
	var rows [][]string
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			return nil, fmt.Errorf("read the reasons: %w", err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok {
				rows = append(rows, reasonRow(spec)...)
			}
			return true
		})
	}
	return rows, nil
}

func reasonRow(spec *ast.ValueSpec) [][]string {
	name := spec.Names[0].Name
	if len(spec.Values) != 1 || !strings.HasPrefix(strings.ToLower(name), "reason") {
		return nil
	}
	value, ok := spec.Values[0].(*ast.BasicLit)
	if !ok || value.Kind != token.STRING {
		return nil
	}
	reason, err := strconv.Unquote(value.Value)
	if err != nil {
		return nil
	}
	meaning := spec.Comment.Text()
	if meaning == "" {
		meaning = strings.TrimPrefix(spec.Doc.Text(), name+" ")
	}
	return [][]string{{quote(reason), sentence(meaning)}}
}

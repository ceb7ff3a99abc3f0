package reference

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Reasons is a package whose constants named Reason… are shown under a title.
type Reasons struct{ Title, Intro, Dir string }

// ReasonsPage returns the page of the reasons that the packages' sources define.
func ReasonsPage(packages []Reasons) (string, error) {
	p := newPage("Reasons", "Every reason that a status, an event or a metric can show. A reason is one word; the message beside it names the object and the way out.")
	for _, pkg := range packages {
		rows, err := reasonRows(pkg.Dir)
		if err != nil {
			return "", err
		}
		p.text("## " + pkg.Title)
		p.text(pkg.Intro)
		p.table([]string{"Reason", "Meaning"}, rows)
	}
	return p.done(), nil
}

func reasonRows(dir string) ([][]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read the reasons: %w", err)
	}
	var rows [][]string
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, e.Name()), nil, parser.ParseComments)
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
	slices.SortFunc(rows, func(a, b []string) int { return strings.Compare(a[0], b[0]) })
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

package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
)

// reasonGroups are where the constants named Reason… or reason… are.
var reasonGroups = []struct {
	title, intro string
	files        []string
}{
	{
		"The UpstreamCluster", "The reason of a condition or of an event of an UpstreamCluster.",
		[]string{"internal/discovery/*.go", "internal/accept/*.go", "internal/upstream/config.go", "internal/upstream/*/kind.go"},
	},
	{
		"Contact", "Why the condition `Reachable` isn't True, and the label of `gimbal_upstream_failures_total`.",
		[]string{"internal/upstream/upstream.go"},
	},
	{
		"Refusals", "Why an upstream object, or a part of one, isn't mirrored: in the status, and the label of `gimbal_upstream_refusals`.",
		[]string{"internal/mirror/*.go", "internal/upstream/*/names.go"},
	},
}

// reasonsPage has every reason with the comment of its constant.
func reasonsPage() (string, error) {
	var b strings.Builder
	b.WriteString("# Reasons\n\nEvery reason that a status, an event or a metric can show. A reason is one word; the message beside it names the object and the way out.\n")
	for _, g := range reasonGroups {
		var rows [][]string
		for _, pattern := range g.files {
			files, err := filepath.Glob(filepath.Join("../..", pattern))
			if err != nil {
				return "", err
			}
			for _, file := range files {
				if strings.HasSuffix(file, "_test.go") {
					continue
				}
				f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
				if err != nil {
					return "", err
				}
				ast.Inspect(f, func(n ast.Node) bool {
					if row := reasonRow(n); row != nil {
						rows = append(rows, row)
					}
					return true
				})
			}
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n%s", g.title, g.intro, table([]string{"Reason", "Meaning"}, rows))
	}
	return b.String(), nil
}

func reasonRow(n ast.Node) []string {
	spec, ok := n.(*ast.ValueSpec)
	if !ok || len(spec.Values) != 1 || !strings.HasPrefix(strings.ToLower(spec.Names[0].Name), "reason") {
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
		meaning = strings.TrimPrefix(spec.Doc.Text(), spec.Names[0].Name+" ")
	}
	return []string{"`" + reason + "`", sentence(meaning)}
}

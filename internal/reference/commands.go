package reference

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Commands returns the page of root and the commands below it.
func Commands(root *cobra.Command) string {
	// These two are made on the first run only.
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	p := newPage("Command line", root.Short)
	p.text(root.Long)
	for _, c := range root.Commands() {
		p.command(c)
	}
	if flags := flagRows(root.PersistentFlags()); len(flags) > 0 {
		p.text("## Flags of every command")
		p.table([]string{"Flag", "Type", "Default", "Meaning"}, flags)
	}
	return p.done()
}

func (p *page) command(c *cobra.Command) {
	if !c.IsAvailableCommand() || c.Name() == "completion" {
		return
	}
	p.text("## " + c.CommandPath())
	p.text(sentence(c.Short))
	p.code(c.UseLine())
	p.text(c.Long)
	if c.Example != "" {
		p.code(c.Example)
	}
	p.table([]string{"Flag", "Type", "Default", "Meaning"}, flagRows(c.LocalNonPersistentFlags()))
	for _, sub := range c.Commands() {
		p.command(sub)
	}
}

func flagRows(flags *pflag.FlagSet) [][]string {
	var rows [][]string
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		name := "`--" + f.Name + "`"
		if f.Shorthand != "" {
			name += ", `-" + f.Shorthand + "`"
		}
		kind, usage := pflag.UnquoteUsage(f)
		if kind == "" {
			kind = f.Value.Type()
		}
		value := f.DefValue
		if value == "[]" {
			value = ""
		}
		rows = append(rows, []string{name, kind, quote(value), sentence(usage)})
	})
	return rows
}

package transfer

import (
	"context"

	"davit/manifest"
	"davit/manifest/index"
)

// Where the value of a parameter comes from.
const (
	FromOverlay            = "set here for this environment"
	FromOverlayAll         = "set here for all environments"
	FromEnvironmentDefault = "the release's default for this environment"
	FromDefault            = "the release's default"
)

// ParameterState says what value a parameter has for an environment, and where
// it comes from. A secret is not in it.
type ParameterState struct {
	manifest.Parameter
	Value  string // "" when Hidden
	Hidden bool   // there is a value and it is a secret
	From   string // "" when there is no value
}

// Missing reports whether the release cannot be deployed for want of it.
func (p ParameterState) Missing() bool { return p.From == "" && p.Required }

// ParameterStates lists the parameters of a release with their values for an
// environment, "" being none in particular. The order of precedence is that of
// Deploy.
func (s *Site) ParameterStates(ctx context.Context, r *manifest.Release, environment string) ([]ParameterState, error) {
	overlay, err := s.Index.Values(ctx, r.Project)
	if err != nil {
		return nil, err
	}
	var out []ParameterState
	for _, p := range r.Parameters {
		v := precedence(overlay, p, environment)
		st := ParameterState{Parameter: p, From: v.from, Hidden: v.from != "" && v.sensitive}
		if !st.Hidden {
			st.Value = v.value
		}
		out = append(out, st)
	}
	return out, nil
}

// given is the value that a parameter has, and where it comes from. A value
// that the site keeps sealed is still sealed.
type given struct {
	value     string
	from      string // "" when there is none
	sensitive bool
	sealed    bool
}

// precedence finds the value of a parameter: the site's overlay for the
// environment, then for all, then the release's default for the environment,
// then its default.
func precedence(overlay []index.Value, p manifest.Parameter, environment string) given {
	places := []struct{ environment, from string }{{environment, FromOverlay}, {"", FromOverlayAll}}
	if environment == "" {
		places = places[1:]
	}
	for _, place := range places {
		for _, v := range overlay {
			if v.Name != p.Name || v.Environment != place.environment {
				continue
			}
			if v.Sensitive {
				return given{v.Sealed, place.from, true, true}
			}
			return given{v.Value, place.from, p.Sensitive, false}
		}
	}
	if d, ok := p.Environments[environment]; ok {
		return given{d, FromEnvironmentDefault, p.Sensitive, false}
	}
	if p.Default != nil {
		return given{*p.Default, FromDefault, p.Sensitive, false}
	}
	return given{}
}

// Declared returns how the newest release of a project that declares a
// parameter declares it, releases in the inbox included; nil when none does.
func (s *Site) Declared(ctx context.Context, project, name string) (*manifest.Parameter, error) {
	return s.declared(ctx, project, name)
}

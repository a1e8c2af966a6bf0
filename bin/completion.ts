import { type Commands, type CommandSpec, everywhere, isOptional, type OptionSpec, optionsOf, type ValueSpec } from './spec.ts'

/**
 * What may stand where, as every shell's script asks it. Keys: `` commands; `campaign|1` the first word behind a command, its verbs included;
 * `campaign create|2` …; `campaign create|options`; `campaign create|--id` the values of an option that has one. `@run`, `@file` and `@directory` are
 * found when they are asked for; `@any` is nothing the table knows.
 */
type Candidates = Map<string, { word: string; summary: string }[]>

/** The script that a shell reads. */
export function scriptFor(shell: string, commands: Commands): string {
  const candidates = candidatesOf(commands)
  if (shell === 'bash') return `# pawl completion for bash: source <(pawl completion bash)\n${posixTable(candidates)}\n${bash}`
  if (shell === 'zsh')
    return `#compdef pawl\n# pawl completion for zsh: source <(pawl completion zsh), or as _pawl into a directory of $fpath\n${posixTable(candidates)}\n${zsh}`
  return `# pawl completion for fish: pawl completion fish | source\n${fishTable(candidates)}\n${fish}`
}

function candidatesOf(commands: Commands): Candidates {
  const found: Candidates = new Map()
  const names = Object.entries(commands).map(([word, { summary }]) => ({ word, summary }))
  found.set('|1', [...names, { word: 'help', summary: 'all commands, or one of them' }, { word: 'version', summary: "Pawl's version" }])
  found.set('|options', optionWords(everywhere))
  found.set('help|1', names)
  for (const [name, command] of Object.entries(commands)) {
    addForms(found, name, command)
    const verbs = verbsOf(command)
    if (verbs.length > 0) found.set(`help ${name}|2`, verbs)
  }
  return found
}

const verbsOf = ({ forms }: CommandSpec) => forms.flatMap(({ verb, summary }) => (verb === undefined ? [] : [{ word: verb, summary }]))

function addForms(found: Candidates, name: string, command: CommandSpec): void {
  const plain = command.forms.find(form => form.verb === undefined)
  const verbs = verbsOf(command)
  found.set(`${name}|options`, optionWords(plain === undefined ? everywhere : optionsOf(plain)))
  found.set(`${name}|1`, verbs)
  for (const form of command.forms) {
    const key = form.verb === undefined ? name : `${name} ${form.verb}`
    found.set(`${key}|options`, optionWords(optionsOf(form)))
    for (const [option, { value }] of Object.entries(optionsOf(form))) {
      // What may be left out is never waited for.
      if (value !== undefined && !isOptional(option)) found.set(`${key}|--${option}`, wordsOf(value))
    }
    for (const [place, word] of (form.words ?? []).entries()) {
      const at = `${key}|${place + 1}`
      found.set(at, [...(place === 0 && form.verb === undefined ? verbs : []), ...wordsOf(word)])
    }
  }
}

const optionWords = (options: Readonly<Record<string, OptionSpec>>) => Object.entries(options).map(([name, { summary }]) => ({ word: `--${name}`, summary }))

function wordsOf({ kind, choices, suggestions, name }: ValueSpec) {
  const words = choices ?? suggestions
  if (words !== undefined) return words.map(word => ({ word, summary: '' }))
  const word = kind === 'run' || kind === 'file' || kind === 'directory' ? `@${kind}` : '@any'
  return [{ word, summary: name }]
}

const quoted = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`

const lineOf = ({ word, summary }: { word: string; summary: string }) => (summary === '' ? word : `${word}\t${summary}`)

/** The table as a function that bash and zsh both read: `word TAB summary` a line. */
function posixTable(candidates: Candidates): string {
  const cases = [...candidates].map(([key, words]) => `    ${quoted(key)}) printf '%s\\n' ${words.map(lineOf).map(quoted).join(' ')} ;;`)
  return ['_pawl_table() {', '  case "$1" in', ...cases.filter(line => !line.endsWith("'%s\\n'  ;;")), '    *) return 1 ;;', '  esac', '}'].join('\n')
}

/** The same for fish, whose quotes know two escapes only. */
function fishTable(candidates: Candidates): string {
  const quote = (text: string) => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
  const cases = [...candidates].flatMap(([key, words]) =>
    words.length === 0 ? [] : [`    case ${quote(key)}`, `      printf '%s\\n' ${words.map(lineOf).map(quote).join(' ')}`],
  )
  return ['function __pawl_table', '  switch "$argv[1]"', ...cases, '    case "*"', '      return 1', '  end', 'end'].join('\n')
}

// All three walk the words before the cursor in the same way: a command, then one of its verbs where it has such, then words; options may stand anywhere,
// and those that have a value take the word behind them.

const bash = `_pawl() {
  local key='' place=1 wants='' word i list cur="\${COMP_WORDS[COMP_CWORD]}"
  COMPREPLY=()
  # bash takes --format=csv apart: three words.
  [ "$cur" = '=' ] && cur=''
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="\${COMP_WORDS[i]}"
    if [ "$word" = '=' ]; then
      continue
    elif [ -n "$wants" ]; then
      wants=''
    elif [[ $word == -* ]]; then
      _pawl_table "$key|$word" > /dev/null && wants="$word"
    elif [ -z "$key" ]; then
      key="$word"
    elif [ "$place" = 1 ] && _pawl_table "$key $word|options" > /dev/null; then
      key="$key $word"
    elif [ "$key" = help ]; then
      key="help $word" place=2
    else
      place=$((place + 1))
    fi
  done
  if [ -n "$wants" ]; then
    list="$(_pawl_table "$key|$wants")"
  elif [[ $cur == -* ]]; then
    list="$(_pawl_table "$key|options")"
  else
    list="$(_pawl_table "$key|$place")"
  fi
  case "$list" in
    @file*) COMPREPLY=($(compgen -f -- "$cur")) ;;
    @directory*) COMPREPLY=($(compgen -d -- "$cur")) ;;
    # bash takes words apart at colons as well, so ids that have one are left out.
    @run*) COMPREPLY=($(compgen -W "$(_pawl_runs | grep -v :)" -- "$cur")) ;;
    @*) ;;
    *) COMPREPLY=($(compgen -W "$(printf '%s\\n' "$list" | cut -f 1)" -- "$cur")) ;;
  esac
}
_pawl_runs() {
  timeout 2 pawl runs --limit 100 --ids 2> /dev/null
}
complete -F _pawl pawl
`

const zsh = `_pawl_runs() {
  timeout 2 pawl runs --limit 100 --ids 2> /dev/null
}
_pawl() {
  local key='' place=1 wants='' word cur="$words[CURRENT]" list
  local -a lines
  for word in "\${(@)words[2,CURRENT-1]}"; do
    if [[ -n $wants ]]; then
      wants=''
    elif [[ $word == -* ]]; then
      _pawl_table "$key|$word" > /dev/null && wants="$word"
    elif [[ -z $key ]]; then
      key="$word"
    elif [[ $place == 1 ]] && _pawl_table "$key $word|options" > /dev/null; then
      key="$key $word"
    elif [[ $key == help ]]; then
      key="help $word" place=2
    else
      place=$((place + 1))
    fi
  done
  if [[ -z $wants && $cur == --*=* ]]; then
    wants="\${cur%%=*}"
    compset -P '*='
  fi
  if [[ -n $wants ]]; then
    list="$(_pawl_table "$key|$wants")"
  elif [[ $cur == -* ]]; then
    list="$(_pawl_table "$key|options")"
  else
    list="$(_pawl_table "$key|$place")"
  fi
  case "$list" in
    '') return 1 ;;
    @file*) _files ;;
    @directory*) _files -/ ;;
    @run*) lines=("\${(@f)$(_pawl_runs)}") && compadd -a lines ;;
    @*) _message "\${list#*$'\\t'}" ;;
    *)
      lines=("\${(@f)list}")
      lines=("\${(@)lines//:/\\\\:}")
      lines=("\${(@)lines/$'\\t'/:}")
      _describe 'pawl' lines
      ;;
  esac
}
if [[ "\${funcstack[1]}" == _pawl ]]; then
  _pawl "$@"
else
  compdef _pawl pawl
fi
`

const fish = `function __pawl_runs
  timeout 2 pawl runs --limit 100 --ids 2> /dev/null
end
function __pawl_complete
  set -l key ''
  set -l place 1
  set -l wants ''
  set -l cur (commandline -ct)
  for word in (commandline -opc)[2..-1]
    if test -n "$wants"
      set wants ''
    else if string match -q -- '-*' $word
      __pawl_table "$key|$word" > /dev/null; and set wants $word
    else if test -z "$key"
      set key $word
    else if test $place = 1; and __pawl_table "$key $word|options" > /dev/null
      set key "$key $word"
    else if test "$key" = help
      set key "help $word"
      set place 2
    else
      set place (math $place + 1)
    end
  end
  set -l list
  set -l before ''
  if test -z "$wants"; and string match -q -- '--*=*' $cur
    set wants (string split -m 1 = -- $cur)[1]
    set before "$wants="
  end
  if test -n "$wants"
    set list (__pawl_table "$key|$wants")
  else if string match -q -- '-*' $cur
    set list (__pawl_table "$key|options")
  else
    set list (__pawl_table "$key|$place")
  end
  switch "$list[1]"
    case '@file*'
      __fish_complete_path (string replace -- "$before" '' $cur)
    case '@directory*'
      __fish_complete_directories (string replace -- "$before" '' $cur)
    case '@run*'
      __pawl_runs
    case '@*' ''
    case '*'
      printf "$before%s\\n" $list
  end
end
complete -c pawl -f -a '(__pawl_complete)'
`

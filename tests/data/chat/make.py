#!/usr/bin/env python3
"""Writes cases.json: templates rendered by Jinja itself, in the sandbox and with the settings that transformers uses. Needs the package jinja2."""
import json
import os
import re

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Generation(Extension):
    """{% generation %} ... {% endgeneration %}: here only its text."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_text"), [], [], body).set_lineno(line)

    def _text(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
environment.globals["raise_exception"] = raise_exception
environment.filters["tojson"] = lambda x, ensure_ascii=False, indent=None, separators=None, sort_keys=False: json.dumps(
    x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

TALK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "  Hi, who\nare you? "}, {"role": "assistant", "content": "I am \"dsrt\" – ünïcode 😀."},
        {"role": "user", "content": "And 2+2?"}, {"role": "assistant", "content": "4"}]
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "It's <b>", "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer", "default": 3}}}}}]
CALLS = [{"role": "user", "content": "Weather?"}, {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Köln", "days": 1.5, "x": None, "y": True}}}]},
         {"role": "tool", "name": "weather", "content": "rain"}, {"role": "assistant", "content": "Rain."}]
BASE = {"bos_token": "<s>", "eos_token": "</s>", "tools": None, "documents": None, "add_generation_prompt": False, "messages": TALK}

# Whole templates, in the manner of the models' own.
WHOLE = {
    "chatml": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "headers": "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start|>' + message['role'] + '<|end|>\n\n' + message['content'] | trim + '<|eot|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant<|end|>\n\n' }}{% endif %}",
    "brackets": "{%- if messages[0]['role'] == 'system' %}\n    {%- set system_message = messages[0]['content'] %}\n    {%- set loop_messages = messages[1:] %}\n{%- else %}\n    {%- set loop_messages = messages %}\n{%- endif %}\n\n{{- bos_token }}\n{%- for message in loop_messages %}\n    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\n        {{- raise_exception('roles must alternate') }}\n    {%- endif %}\n    {%- if message['role'] == 'user' %}\n        {%- if loop.first and system_message is defined %}\n            {{- ' [INST] ' + system_message + '\\n\\n' + message['content'] + ' [/INST]' }}\n        {%- else %}\n            {{- ' [INST] ' + message['content'] + ' [/INST]' }}\n        {%- endif %}\n    {%- elif message['role'] == 'assistant' %}\n        {{- ' ' + message['content'] + eos_token}}\n    {%- else %}\n        {{- raise_exception('only user and assistant roles') }}\n    {%- endif %}\n{%- endfor %}\n",
    "turns": "{{ bos_token }}\n{% for message in messages %}\n    {% if message['role'] == 'assistant' %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}\n{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}\n{% endfor %}\n{% if add_generation_prompt %}\n<start_of_turn>model\n{% endif %}",
    "tools": "{%- macro render(tool) %}\n{{- tool.function.name }}: {{ tool.function | tojson }}\n{%- if tool.function.parameters.properties %}\n  {%- for name, p in tool.function.parameters.properties.items() %}\n    - {{ name }} ({{ p.type }}){% if p.default is defined %} = {{ p.default }}{% endif %}\n\n  {%- endfor %}\n{%- endif %}\n{%- endmacro %}\n{%- if tools %}\n# Tools\n{% for tool in tools %}\n{{ render(tool) }}\n{% endfor %}\n{% endif %}\n{%- set ns = namespace(last=-1, calls=0) %}\n{%- for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}\n{%- for m in messages %}\n{%- if m.tool_calls is defined and m.tool_calls %}\n{%- for call in m.tool_calls %}{% set ns.calls = ns.calls + 1 %}\n<call {{ ns.calls }}>{{ call.function.name }} {{ call.function.arguments | tojson(indent=2) }}</call>\n{%- endfor %}\n{%- else %}\n<{{ m.role }}{{ ' last' if loop.index0 == ns.last }}>{{ m.content if m.content is string else '' }}</{{ m.role }}>\n{%- endif %}\n{%- endfor %}",
    "generation": "{% for m in messages %}{% if m.role == 'assistant' %}A: {% generation %}{{ m.content }}{{ eos_token }}{% endgeneration %}\n{% else %}{{ m.role | capitalize }}: {{ m.content | trim }}\n{% endif %}{% endfor %}",
    "content_parts": "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content %}{{ part.text if part.type == 'text' else '<image>' }}{% endfor %}{% endif %}|{% endfor %}",
}

# Pieces of the language.
PIECES = """{{ 1 + 2 * 3 - 4 // 3 % 5 }} {{ 7 / 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 2 ** 10 }} {{ 1.5 + 1 }} {{ 10 ~ 'x' ~ none }}
{{ 'a' < 'b' }} {{ 1 < 2 < 3 }} {{ 1 == 1.0 }} {{ [1, 2] == [1, 2] }} {{ not true and false or 'yes' }} {{ '' or 'empty' }} {{ 0 and 1 }}
{{ 'ell' in 'hello' }} {{ 3 not in [1, 2] }} {{ 'role' in messages[0] }} {{ messages | length }} {{ 'aé😀' | length }} {{ 'aé😀'[::-1] }} {{ 'hello'[1:-1] }} {{ [1,2,3,4][::2] }}
{{ [1, 'two', 3.0, none, true, {'k': "v'"}] }} {{ {'a': 1, 'b': [2]} | tojson }} {{ 'quote " and \\' and \\n' }} {{ ["it's"] }}
{{ '  pad ' | trim }}| {{ 'a-b-c'.split('-') }} {{ ' a  b '.split() }} {{ 'a,b,c'.split(',', 1)[1] }} {{ 'x'.upper() }} {{ 'hello world'.title() }} {{ 'Éa'.lower() }} {{ 'xxhixx'.strip('x') }}
{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith(('c', 'd')) }} {{ 'a.b'.replace('.', '!') }} {{ 'abcabc'.find('c') }} {{ 'abc'.rstrip('c') }} {{ '12'.isdigit() }}
{{ messages | map(attribute='role') | join(', ') }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ messages | rejectattr('role', 'in', ['user', 'system']) | map(attribute='content') | first }}
{{ missing is defined }} {{ missing | default('d') }} {{ '' | default('d', true) }} {{ messages[0].nope is undefined }} {{ none is none }} {{ 3 is odd }} {{ 4 is divisibleby 2 }} {{ 'x' is string }} {{ {} is mapping }} {{ [] is iterable }}
{% for x in range(5) if x != 2 %}{{ loop.index }}/{{ loop.length }}:{{ x }}{{ ', ' if not loop.last }}{% else %}none{% endfor %}
{% for x in [] %}x{% else %}none{% endfor %}
{% for a, b in {'p': 1, 'q': 2}.items() %}{{ a }}={{ b }};{% endfor %}
{% for x in range(9) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 5 %}{% break %}{% endif %}{{ x }}{% endfor %}
{% for x in [1, 2, 3] %}{{ loop.previtem if loop.previtem is defined else '-' }}<{{ x }}<{{ loop.nextitem | default('-') }} {% endfor %}
{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{{ x }}{% endfor %}{{ x }}
{% set a, b = 1, 'two' %}{{ b }}{{ a }} {% set text %}block {{ a }}{% endset %}{{ text | upper }}
{% macro f(a, b='B') %}[{{ a }}{{ b }}]{% endmacro %}{{ f(1) }}{{ f(1, 2) }}{{ f(b='x', a='y') }}
{{ 'yes' if 1 > 0 else 'no' }} {{ ('no' if 1 > 2) is undefined }} {{ (1, 2)[1] }} {{ 'a' 'b' }} {{ 'b' * 3 }} {{ [1] + [2] }}
{# a comment #}x{#- gone -#}  y
    {%- if true -%}   tight   {%- endif -%}   end
  {% if true %}
  kept
  {% endif %}
{%+ if true %}plus{% endif +%}
{% raw %}{{ not rendered }} {% nor this %}{% endraw %}
{{ [3, 1, 2] | sort }} {{ ['b', 'A'] | sort }} {{ [1, 2, 3] | reverse | list }} {{ [1, 2, 2] | unique | list }} {{ [1, 5, 3] | max }} {{ [1, 2] | sum }} {{ 3.7 | int }} {{ '42' | int + 1 }} {{ 2.5 | round }} {{ -3 | abs }}
{{ 'line\\nline2' | indent(2) }} {{ 'a\\tb' | tojson }} {{ {'b': 1, 'a': 2} | dictsort | map('first') | join }} {{ [['a', 1]] | tojson(indent=2) }}
{{ 1e3 }} {{ 1.0 }} {{ 0.1 + 0.2 }} {{ 100000000000000000 }} {{ 1_000 }} {{ true }} {{ None }} {{ 'tab\\x41\\u00e9' }}
{{ messages[-1].content }} {{ messages[0]['role'][0] }} {{ messages[99] is defined }} {{ messages | last | tojson }} {{ 'a\\nb\\n'.splitlines() }} {{ namespace(a=1).a }} {{ dict(a=1)['a'] }}
{% for x in missing %}x{% else %}nothing{% endfor %}{% for m in messages %}{% for c in m.tools %}{{ c }}{% endfor %}{% endfor %}
{{ messages | selectattr('role', '==', 'user') | list | length }} {{ messages | rejectattr('role', '!=', 'user') | list | length }} {{ [1, 2, 3] | select('>', 1) | list }} {{ [1, 2, 3] | select('<=', 1) | list }} {{ [1, 2] | reject('greaterthan', 1) | list }} {{ 3 is greaterthan 2 }} {{ 1 is lessthan 1 }} {{ [1, 2] | select('>=', 2) | list }} {{ [1, 2] | select('<', 2) | list }}
{{ {'b': 1, 'a': [2, 'é']} | tojson(separators=(',', ':')) }} {{ {'b': 1, 'a': 2} | tojson(sort_keys=true) }} {{ 'é😀\\n' | tojson(ensure_ascii=true) }} {{ 'é' | tojson(true) }} {{ [1, {'a': 2}] | tojson(false, 2) }} {{ [1, [], {}] | tojson(indent='--', separators=(';', '=')) }}
{{ 'ab'.startswith('b', 1) }} {{ 'abab'.find('a', 1) }} {{ 'abab'.rfind('a', 0, 2) }} {{ 'éab'.find('b', -1) }} {{ 'abc'.endswith('b', 0, 2) }} {{ 'a'.startswith('', 2) }} {{ 'aaa'.count('a', 1) }} {{ ' a b  c '.rsplit(None, 1) }} {{ ' a b  c '.split(None, 1) }} {{ ' a b  c '.rsplit() }} {{ 'a,b,c'.rsplit(',', 1) }} {{ 'a--b-c'.rsplit('-') }} {{ ''.split(',') }} {{ 'a\\nb\\r\\nc'.splitlines(true) }}
{{ [1, 2, 3] | sum(start=10) }} {{ {'b': 1, 'a': 2} | dictsort(by='value') | tojson }} {{ {'b': 1, 'A': 2, 'c': 0} | dictsort(reverse=true) | tojson }} {{ {'b': 1, 'A': 2} | dictsort(true) | tojson }} {{ messages | unique(attribute='role') | map(attribute='role') | list }} {{ ['b', 'A', 'B'] | unique | list }} {{ ['b', 'A'] | max }} {{ [{'x': 1}, {'x': 3}] | max(attribute='x') }} {{ messages | map(attribute='zz', default='q') | join }}
{{ "it's o'clock-time (now) [ok]" | title }} {{ "it's o'clock".title() }} {{ 'ß' | upper }} {{ 'ﬁnŉ'.upper() }} {{ 'ß'.islower() }} {{ 'hELLO wORLD' | capitalize }} {{ 'ŒUVRE é' | title }}
{% set ns = namespace(a=1) %}{{ ns }} {{ ns == namespace(a=1) }} {{ ns == ns }}
{{ 5 is lt 6 }} {{ 'a' is in ['a'] }} {{ 1 is not string }} {{ not 1 is string }} {{ 'A'|lower ~ 'b'|upper }} {{ ['a','b']|join('-')|upper }} {{ -1|abs }}"""


def render(template, **more):
    variables = {**BASE, **more}
    return {"template": template, "variables": variables, "text": environment.from_string(template).render(**variables)}


cases = {}
for name, template in WHOLE.items():
    talk = CALLS if name == "tools" else TALK
    for prompt in (False, True):
        cases[f"{name}{'_prompt' if prompt else ''}"] = render(template, messages=talk, add_generation_prompt=prompt, tools=TOOLS if name == "tools" else None)
for number, piece in enumerate(re.split(r"\n(?! )", PIECES)):
    cases[f"piece_{number}"] = render(piece)
cases["white_space"] = render(PIECES)
cases["line_ends_of_windows"] = render(WHOLE["tools"].replace("\n", "\r\n"), messages=CALLS, tools=TOOLS)
cases["line_ends_of_old"] = render("a\r  {% if true %}\rb{% endif %}\r\nc{{ '1\r\n2' }}\r")

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "cases.json"), "w", encoding="utf-8") as file:
    json.dump(cases, file, ensure_ascii=False, indent=1)
    file.write("\n")

using System;
using System.Collections;
using System.Globalization;
using System.Reflection;
using System.Text;

namespace Dsrt {

// Writes JSON: dictionaries, objects by their properties (new { lr = 0.1 }), sequences, numbers, booleans, strings and null.
static class Json {
    // null and text stay as they are.
    internal static string Text(object value) { return value == null || value is string ? (string)value : Write(value); }

    internal static string Write(object value) {
        var text = new StringBuilder();
        Write(value, text);
        return text.ToString();
    }

    static void Write(object value, StringBuilder to) {
        if (value == null) {
            to.Append("null");
        } else if (value is string || value is char || value is Enum) {
            Quote(value.ToString(), to);
        } else if (value is bool) {
            to.Append((bool)value ? "true" : "false");
        } else if (value is float || value is double) {
            to.Append(Convert.ToDouble(value).ToString("R", CultureInfo.InvariantCulture));
        } else if (value is IFormattable) {
            to.Append(((IFormattable)value).ToString(null, CultureInfo.InvariantCulture));
        } else if (value is IDictionary) {
            string between = "{";
            foreach (DictionaryEntry e in (IDictionary)value) {
                Pair(between, e.Key.ToString(), e.Value, to);
                between = ", ";
            }
            to.Append(between == "{" ? "{}" : "}");
        } else if (value is IEnumerable) {
            string between = "[";
            foreach (object item in (IEnumerable)value) {
                to.Append(between);
                Write(item, to);
                between = ", ";
            }
            to.Append(between == "[" ? "[]" : "]");
        } else {
            string between = "{";
            foreach (PropertyInfo p in value.GetType().GetProperties()) {
                Pair(between, p.Name, p.GetValue(value), to);
                between = ", ";
            }
            to.Append(between == "{" ? "{}" : "}");
        }
    }

    static void Pair(string between, string key, object value, StringBuilder to) {
        to.Append(between);
        Quote(key, to);
        to.Append(": ");
        Write(value, to);
    }

    static void Quote(string text, StringBuilder to) {
        to.Append('"');
        foreach (char c in text) {
            if (c == '"' || c == '\\') to.Append('\\').Append(c);
            else if (c < 0x20) to.AppendFormat("\\u{0:x4}", (int)c);
            else to.Append(c);
        }
        to.Append('"');
    }
}

}

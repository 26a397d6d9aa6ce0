import com.fasterxml.jackson.databind.ObjectMapper;
import java.sql.*;
import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Prints each order event once, and keeps the newest status of each order. docs/consumers.md has the reasons. */
public class OrderStatus {
    static final List<String> TABLES = List.of(
        "CREATE TABLE IF NOT EXISTS told (source TEXT, id TEXT, PRIMARY KEY (source, id))",
        "CREATE TABLE IF NOT EXISTS orders (order_id TEXT PRIMARY KEY, occurred_at TEXT, status TEXT)");
    static final String ONCE = "INSERT INTO told VALUES (?, ?) ON CONFLICT DO NOTHING";
    static final String NEWEST = """
        INSERT INTO orders VALUES (?, ?, ?) ON CONFLICT (order_id) DO UPDATE SET status = excluded.status,
        occurred_at = excluded.occurred_at WHERE excluded.occurred_at >= orders.occurred_at""";
    static final Map<String, String> ENV = System.getenv();
    static final String EVENTS = ENV.getOrDefault("PREFIX", "pepay") + ".orders";

    public static void main(String[] arguments) throws Exception {
        var settings = Map.<String, Object>of(
            "bootstrap.servers", ENV.getOrDefault("KAFKA", "localhost:9092"),
            "group.id", ENV.getOrDefault("GROUP", "order-status"),
            "isolation.level", "read_committed", // the default is read_uncommitted
            "auto.offset.reset", "earliest", "enable.auto.commit", false);
        try (var db = DriverManager.getConnection("jdbc:sqlite:" + ENV.getOrDefault("STORE", "orders.db"));
            var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            for (var table : TABLES) change(db, table);
            db.setAutoCommit(false);
            consumer.subscribe(List.of(EVENTS, EVENTS + ".latest"));
            while (true) {
                for (var record : consumer.poll(Duration.ofSeconds(1))) take(record, db);
                db.commit(); // first what was done,
                consumer.commitSync(); // then where to go on: what comes again meanwhile changes nothing
            }
        }
    }

    static void take(ConsumerRecord<String, String> record, Connection db) throws Exception {
        var header = new HashMap<String, String>();
        for (var each : record.headers()) header.put(each.key(), new String(each.value()));
        if (record.value() == null) { // a tombstone, which is among newest events alone
            change(db, "DELETE FROM orders WHERE order_id = ?", record.key());
        } else if (header.get("ce_id") == null) {
            throw new Exception(record.key() + " is no event: does this consumer read uncommitted records?");
        } else if (record.topic().equals(EVENTS)) { // a copy, a replay, a restart: what was handled is not handled again
            if (change(db, ONCE, header.get("ce_source"), header.get("ce_id")) == 1) {
                var late = header.containsKey("relay_stale") ? " late" : "";
                System.out.println(record.key() + " " + header.get("ce_id") + late);
            }
        } else { // the newest event of the order, never a stale one
            var event = new ObjectMapper().readTree(record.value());
            change(db, NEWEST, record.key(), header.get("ce_time"), event.path("status").textValue());
        }
    }

    static int change(Connection db, String sql, String... values) throws SQLException {
        try (var statement = db.prepareStatement(sql)) {
            for (int at = 0; at < values.length; at++) statement.setString(at + 1, values[at]);
            return statement.executeUpdate();
        }
    }
}

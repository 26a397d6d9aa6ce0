import java.util.*;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.springframework.jdbc.core.JdbcTemplate;
import org.springframework.jdbc.datasource.*;
import org.springframework.kafka.core.DefaultKafkaConsumerFactory;
import org.springframework.kafka.listener.*;
import org.springframework.transaction.support.TransactionTemplate;
import org.springframework.util.backoff.FixedBackOff;
import tools.jackson.databind.json.JsonMapper;

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

    public static void main(String[] arguments) {
        var settings = Map.<String, Object>of(
            "bootstrap.servers", ENV.getOrDefault("KAFKA", "localhost:9092"),
            "group.id", ENV.getOrDefault("GROUP", "order-status"),
            "isolation.level", "read_committed", // the default is read_uncommitted
            "auto.offset.reset", "earliest");
        var store = new SingleConnectionDataSource("jdbc:sqlite:" + ENV.getOrDefault("STORE", "orders.db"), true);
        var db = new JdbcTemplate(store);
        TABLES.forEach(db::execute);
        var transaction = new TransactionTemplate(new DataSourceTransactionManager(store));
        var properties = new ContainerProperties(EVENTS, EVENTS + ".latest");
        // First what was done, then, as the listener returns, where to go on: what comes again meanwhile changes nothing.
        properties.setMessageListener((BatchMessageListener<String, String>) records ->
            transaction.executeWithoutResult(status -> records.forEach(record -> take(record, db))));
        var consumers = new DefaultKafkaConsumerFactory<>(settings, new StringDeserializer(), new StringDeserializer());
        var container = new KafkaMessageListenerContainer<>(consumers, properties);
        container.setCommonErrorHandler(new DefaultErrorHandler((record, failure) -> {
            failure.printStackTrace(); // the default is to skip what could not be done, after ten attempts
            System.exit(1);
        }, new FixedBackOff(0, 0)));
        container.start();
    }

    static void take(ConsumerRecord<String, String> record, JdbcTemplate db) {
        var header = new HashMap<String, String>();
        for (var each : record.headers()) header.put(each.key(), new String(each.value()));
        if (record.value() == null) { // a tombstone, which is among newest events alone
            db.update("DELETE FROM orders WHERE order_id = ?", record.key());
        } else if (header.get("ce_id") == null) {
            throw new IllegalStateException(record.key() + " is no event: does this consumer read uncommitted records?");
        } else if (record.topic().equals(EVENTS)) { // a copy, a replay, a restart: what was handled is not handled again
            if (db.update(ONCE, header.get("ce_source"), header.get("ce_id")) == 1) {
                var late = header.containsKey("relay_stale") ? " late" : "";
                System.out.println(record.key() + " " + header.get("ce_id") + late);
            }
        } else { // the newest event of the order, never a stale one
            var status = new JsonMapper().readTree(record.value()).path("status").stringValue(null);
            db.update(NEWEST, record.key(), header.get("ce_time"), status);
        }
    }
}
